//! Creating users, many with one statement when many are asked for at once.
//!
//! Requests that arrive while statements run share the next one (group commit). Nobody waits for
//! company: a lone request runs at once. What a statement costs besides its rows (a round trip, a
//! flush to disk) is then shared by its requests.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::store::{self, NewUser, StoreError, User};

use crate::database::Pool;

/// Requests that wait for their statement, at most; more than these wait outside.
const QUEUE: usize = 1024;
/// Users in one statement.
const BATCH: usize = 128;
/// Creators that share the requests.
pub(crate) const CREATORS: u32 = 2;

type Answer = Result<User, StoreError>;

struct Request {
    user: NewUser,
    answer: oneshot::Sender<Answer>,
}

/// Where requests for new users go.
#[derive(Debug, Clone)]
pub(crate) struct Creation {
    requests: mpsc::Sender<Request>,
}

/// Carries the requests out. Two of them keep Postgres busy: while one waits for the disk, the
/// other's statement is prepared. Their connections wait but briefly for locks, lest all wait for
/// an address that somebody's open transaction holds.
#[derive(Clone)]
pub(crate) struct Creator {
    pool: Pool,
    requests: Arc<Mutex<mpsc::Receiver<Request>>>,
}

pub(crate) fn creation(pool: Pool) -> (Creation, Creator) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let requests = Arc::new(Mutex::new(receiver));
    (Creation { requests: sender }, Creator { pool, requests })
}

impl Creation {
    pub(crate) async fn create(&self, user: NewUser) -> Answer {
        let (answer, answered) = oneshot::channel();
        let sent = self.requests.send(Request { user, answer }).await;
        sent.map_err(|_| StoreError::Stopping)?;
        answered.await.map_err(|_| StoreError::Stopping)?
    }
}

impl Creator {
    /// Runs as long as anybody can ask, but no longer than `grace` after `shutdown`.
    pub(crate) async fn run(
        self,
        shutdown: CancellationToken,
        grace: Duration,
    ) -> anyhow::Result<()> {
        let grace_over = async {
            shutdown.cancelled().await;
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            () = self.work() => {}
            () = grace_over => {}
        }
        // Nobody is left who could ask, unless this is on its way down.
        shutdown.cancelled().await;
        Ok(())
    }

    async fn work(&self) {
        let mut requests = Vec::with_capacity(BATCH);
        while self
            .requests
            .lock()
            .await
            .recv_many(&mut requests, BATCH)
            .await
            > 0
        {
            while !requests.is_empty() {
                let batch = take_distinct(&mut requests);
                self.create(batch).await;
            }
        }
    }

    /// One statement for all; should Postgres refuse it, one for each, so that only the culprit's
    /// request fails.
    async fn create(&self, batch: Vec<Request>) {
        let users: Vec<_> = batch.iter().map(|request| &request.user).collect();
        match self.insert(&users).await {
            Ok(answers) => batch.into_iter().zip(answers).for_each(reply),
            Err(StoreError::Refused(_) | StoreError::Locked) if batch.len() > 1 => {
                for request in batch {
                    let alone = self.insert(&[&request.user]).await;
                    let answer = alone.and_then(|mut answers| answers.remove(0));
                    reply((request, answer));
                }
            }
            Err(error) => {
                let failed = batch
                    .into_iter()
                    .map(|request| (request, Err(error.clone())));
                failed.for_each(reply);
            }
        }
    }

    async fn insert(&self, users: &[&NewUser]) -> Result<Vec<Answer>, StoreError> {
        store::create(&mut self.pool.acquire().await?, users).await
    }
}

/// A client that went away does not need its answer.
fn reply((request, answer): (Request, Answer)) {
    if request.answer.send(answer).is_err() {
        tracing::debug!("nobody waits for the answer to a creation");
    }
}

/// Leaves those for the next statement whose address is in this one already.
fn take_distinct(requests: &mut Vec<Request>) -> Vec<Request> {
    let mut emails = HashSet::with_capacity(requests.len());
    let (batch, rest) = std::mem::take(requests)
        .into_iter()
        .partition(|request| emails.insert(request.user.draft.email.normal().to_owned()));
    *requests = rest;
    batch
}
