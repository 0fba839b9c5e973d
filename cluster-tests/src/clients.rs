//! Clients that create, change and delete users of their own, and ask again until they get an answer.

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use uuid::Uuid;

use cluster_tests::cluster::Cluster;

use crate::history::User;

/// A write that was acknowledged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Write {
    pub(crate) sent: Instant,
    pub(crate) acknowledged: Instant,
}

pub(crate) struct Clients {
    stop: Arc<AtomicBool>,
    writes: Arc<Mutex<Vec<Write>>>,
    tasks: JoinSet<(Vec<User>, anyhow::Result<()>)>,
}

const CLIENTS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);
/// Nobody waits longer for a single write.
const GIVE_UP: Duration = Duration::from_secs(110);

impl Clients {
    pub(crate) fn start(cluster: &Arc<Cluster>, rate: u32) -> Self {
        let (stop, writes) = (Arc::<AtomicBool>::default(), Arc::default());
        let mut tasks = JoinSet::new();
        for _ in 0..CLIENTS {
            let client = Client {
                cluster: Arc::clone(cluster),
                users: Vec::new(),
                writes: Arc::clone(&writes),
            };
            tasks.spawn(client.run(Duration::from_secs(1) * CLIENTS / rate, Arc::clone(&stop)));
        }
        Self {
            stop,
            writes,
            tasks,
        }
    }

    pub(crate) fn writes(&self) -> Vec<Write> {
        self.writes.lock().expect("no client panics").clone()
    }

    /// Waits for the answers of all writes under way.
    /// An error is an answer that should not be; what was acknowledged must hold all the same.
    pub(crate) async fn stop(mut self) -> (Vec<User>, anyhow::Result<Vec<Write>>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        let mut outcome = Ok(());
        while let Some(client) = self.tasks.join_next().await {
            let (users, written) = client.expect("no client panics");
            all.extend(users);
            outcome = outcome.and(written);
        }
        (all, outcome.map(|()| self.writes()))
    }
}

struct Client {
    cluster: Arc<Cluster>,
    users: Vec<User>,
    writes: Arc<Mutex<Vec<Write>>>,
}

impl Client {
    async fn run(
        mut self,
        period: Duration,
        stop: Arc<AtomicBool>,
    ) -> (Vec<User>, anyhow::Result<()>) {
        let written = self.write(period, &stop).await;
        (self.users, written)
    }

    async fn write(&mut self, period: Duration, stop: &AtomicBool) -> anyhow::Result<()> {
        let mut clock = interval(period);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Twice as many creations as deletions, and more changes than both.
        for turn in 0_usize.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            clock.tick().await;
            let sent = Instant::now();
            match turn % 8 {
                0 | 4 => self.create().await?,
                7 => self.delete(turn).await?,
                _ => self.change(turn).await?,
            }
            let acknowledged = Instant::now();
            let write = Write { sent, acknowledged };
            self.writes.lock().expect("no client panics").push(write);
        }
        Ok(())
    }

    async fn create(&mut self) -> anyhow::Result<()> {
        let key = Uuid::now_v7().simple().to_string();
        let body = json!({ "name": "Ada", "email": format!("{key}@example.com") });
        let url = format!("{}/users", self.cluster.users);
        let request = || {
            let request = self.cluster.http.post(&url).json(&body);
            request.header("idempotency-key", &key)
        };
        let created = insist(request, &[StatusCode::CREATED]).await?;
        self.users.push(User::of(&created.body.context("a user")?)?);
        Ok(())
    }

    async fn change(&mut self, turn: usize) -> anyhow::Result<()> {
        let living: Vec<_> = (self.users.iter_mut())
            .filter(|user| !user.deleted)
            .collect();
        let count = living.len();
        let user = living.into_iter().nth(turn % count).context("a user")?;
        let name = Uuid::now_v7().simple().to_string();
        let body = json!({ "name": name, "email": user.email });
        let url = format!("{}/users/{}", self.cluster.users, user.id);
        let request = || self.cluster.http.put(&url).json(&body);
        let changed = insist(request, &[StatusCode::OK]).await?;
        let version = User::of(&changed.body.context("a user")?)?.version;
        ensure!(
            version > user.version,
            "user {} went from version {} to {version}",
            user.id,
            user.version
        );
        user.version = version;
        user.name = name;
        Ok(())
    }

    /// Changes the user first: one whose creation was lost must not pass for deleted.
    async fn delete(&mut self, turn: usize) -> anyhow::Result<()> {
        self.change(turn).await?;
        let living: Vec<_> = (self.users.iter_mut())
            .filter(|user| !user.deleted)
            .collect();
        let count = living.len();
        let user = living.into_iter().nth(turn % count).context("a user")?;
        let url = format!("{}/users/{}", self.cluster.users, user.id);
        let request = || self.cluster.http.delete(&url);
        let done = [StatusCode::NO_CONTENT, StatusCode::NOT_FOUND];
        let id = user.id;
        let gone = match insist(request, &done).await {
            Ok(outcome) => outcome,
            Err(error) => {
                // Nobody knows whether it was deleted.
                self.users.retain(|user| user.id != id);
                return Err(error);
            }
        };
        let is_absent = gone.status == StatusCode::NOT_FOUND;
        ensure!(
            !(is_absent && gone.is_first),
            "user {id} was changed and is not there"
        );
        user.deleted = true;
        user.is_doubtful = is_absent;
        Ok(())
    }
}

struct Outcome {
    status: StatusCode,
    body: Option<Value>,
    /// Otherwise an attempt that was not answered may have been carried out.
    is_first: bool,
}

/// Sends the request until its outcome is known.
async fn insist(
    request: impl Fn() -> RequestBuilder,
    outcomes: &[StatusCode],
) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    for attempt in 0.. {
        let failure = match request().send().await {
            Ok(answer) => {
                let status = answer.status();
                if outcomes.contains(&status) {
                    match answer.bytes().await {
                        Ok(body) => {
                            return Ok(Outcome {
                                status,
                                body: serde_json::from_slice(&body).ok(),
                                is_first: attempt == 0,
                            });
                        }
                        Err(error) => error.to_string(),
                    }
                } else {
                    let text = answer.text().await.unwrap_or_default();
                    // Its repeat came while the first attempt is still being carried out.
                    let again = status.is_server_error() || status == StatusCode::CONFLICT;
                    ensure!(again, "{status}: {text}");
                    format!("{status}: {text}")
                }
            }
            Err(error) => error.to_string(),
        };
        if started.elapsed() > GIVE_UP {
            bail!("no outcome after {GIVE_UP:?}: {failure}");
        }
        sleep(PAUSE).await;
    }
    unreachable!("there is no last attempt")
}
