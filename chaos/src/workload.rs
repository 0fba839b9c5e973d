//! Many clients that write at a steady rate, and remember what they were told.

mod api;
mod changes;
mod client;
mod creations;
mod imports;
mod people;
mod reads;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    sync::{OwnedRwLockWriteGuard, RwLock},
    task::JoinSet,
};

use self::{api::Api, client::Client, people::Shared};
use crate::{endpoints::Endpoints, history::History};

const CLIENTS: u32 = 24;

pub(crate) struct Workload {
    history: Arc<History>,
    /// Each request is made under a read lock.
    gate: Arc<RwLock<()>>,
    pause: Mutex<Option<OwnedRwLockWriteGuard<()>>>,
    /// End with the workload.
    _clients: JoinSet<()>,
}

impl Workload {
    /// Requests a second, of all clients together. What each client asks for follows from the seed.
    pub(crate) fn start(endpoints: &Endpoints, seed: u64, rate: u32) -> anyhow::Result<Self> {
        let history = Arc::<History>::default();
        let gate = Arc::<RwLock<()>>::default();
        let shared = Arc::<Shared>::default();
        let api = Api::new(endpoints)?;
        let mut seeds = fastrand::Rng::with_seed(seed);
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let random = seeds.fork();
            let client = Client::new(
                api.clone(),
                Arc::clone(&history),
                random,
                Arc::clone(&shared),
            );
            clients.spawn(client.run(Duration::from_secs(1) * CLIENTS / rate, Arc::clone(&gate)));
        }
        Ok(Self {
            history,
            gate,
            pause: Mutex::new(None),
            _clients: clients,
        })
    }

    /// Returns once all requests under way have an answer, or none in time.
    pub(crate) async fn pause(&self) {
        let paused = Arc::clone(&self.gate).write_owned().await;
        *self.pause.lock().expect("nobody panics with it") = Some(paused);
    }

    pub(crate) fn resume(&self) {
        *self.pause.lock().expect("nobody panics with it") = None;
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.history.acknowledgements()
    }

    pub(crate) fn history(&self) -> Arc<History> {
        Arc::clone(&self.history)
    }
}
