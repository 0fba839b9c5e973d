//! Somebody who writes ten times a second and looks when the copy has it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use uuid::Uuid;

use cluster_tests::cluster::Cluster;

/// A write that the copy came to show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) sent: Instant,
    pub(crate) visible: Instant,
}

pub(crate) struct Probe {
    stop: Arc<AtomicBool>,
    looks: Arc<Mutex<Vec<Look>>>,
    task: tokio::task::JoinHandle<()>,
}

const PERIOD: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(10);
const AT_ONCE: usize = 20;

impl Probe {
    pub(crate) fn start(cluster: Arc<Cluster>) -> Self {
        let (stop, looks) = (Arc::<AtomicBool>::default(), Arc::default());
        let task = tokio::spawn(run(cluster, Arc::clone(&stop), Arc::clone(&looks)));
        Self { stop, looks, task }
    }

    pub(crate) fn looks(&self) -> Vec<Look> {
        self.looks.lock().expect("no probe panics").clone()
    }

    pub(crate) async fn stop(self) -> Vec<Look> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("no probe panics");
        let looks = self.looks.lock().expect("no probe panics");
        looks.clone()
    }
}

async fn run(cluster: Arc<Cluster>, stop: Arc<AtomicBool>, looks: Arc<Mutex<Vec<Look>>>) {
    let mut clock = interval(PERIOD);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut under_way = JoinSet::new();
    while !stop.load(Ordering::Relaxed) {
        clock.tick().await;
        if under_way.len() < AT_ONCE {
            let (cluster, looks, stop) = (cluster.clone(), looks.clone(), stop.clone());
            under_way.spawn(async move {
                if let Some(look) = look(&cluster, &stop).await {
                    looks.lock().expect("no probe panics").push(look);
                }
            });
        }
        while under_way.try_join_next().is_some() {}
    }
    under_way.join_all().await;
}

/// Nothing if it is told to stop first.
async fn look(cluster: &Cluster, stop: &AtomicBool) -> Option<Look> {
    let sent = Instant::now();
    let key = Uuid::now_v7().simple().to_string();
    let body = json!({ "name": "Probe", "email": format!("{key}@example.com") });
    let create = || {
        let request = cluster.http.post(format!("{}/users", cluster.users));
        request.header("idempotency-key", &key).json(&body)
    };
    let user: Value = answer(stop, create, 201).await?.json().await.ok()?;
    let url = format!(
        "{}/notifications/user/{}",
        cluster.notifications, user["id"]
    );
    answer(stop, || cluster.http.get(&url), 200).await?;
    let visible = Instant::now();
    Some(Look { sent, visible })
}

async fn answer(
    stop: &AtomicBool,
    ask: impl Fn() -> RequestBuilder,
    wanted: u16,
) -> Option<Response> {
    while !stop.load(Ordering::Relaxed) {
        match ask().send().await {
            Ok(answer) if answer.status() == wanted => return Some(answer),
            _ => sleep(PAUSE).await,
        }
    }
    None
}
