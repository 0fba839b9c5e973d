//! Creating users, many with one statement when many are asked for at once.
//!
//! Requests that arrive while statements run share the next one (group commit). Nobody waits for
//! company: a lone request runs at once. What a statement costs besides its rows (a round trip, a
//! flush to disk) is then shared by its requests.
//!
//! ```text
//! requests ─► main queue ─► creators ──a lock was not free──┐
//!     └──contended address──► queue of contended addresses ◄┘──► creators of that lane
//! ```
//!
//! A transaction that holds an e-mail address makes the statement wait that asks for the same one,
//! with all who share it. So statements wait briefly, and the requests of one that waited in vain
//! go to a lane of their own, as do later ones for their addresses. There the batch is halved until
//! the address that is held is alone.

mod contended;

use std::{collections::HashSet, sync::Arc, time::Duration};

use opentelemetry::Context;
use postgres_pool::{Pool, retry_conflicts};
use service_runtime::{progress::Progress, telemetry::spans};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::contended::ContendedAddresses;
use super::store::{self, NewUser, StoreError, User};

/// Requests that wait for their statement in each lane, at most; more than these wait outside.
const QUEUE: usize = 1024;
/// Users in one statement.
const BATCH: usize = 128;
/// Creators that share the requests, in each lane. Two of them keep Postgres busy: while one waits
/// for the disk, the other's statement is prepared.
pub(crate) const CREATORS: u32 = 2;
/// How long a request may wait in the queue. Together with its statement's deadline it is answered
/// before the HTTP server gives it up, so that what is refused for the time it took is not carried
/// out later.
const MAX_QUEUE_TIME: Duration = Duration::from_secs(4);

type Answer = Result<User, StoreError>;

struct Request {
    user: NewUser,
    /// If its trace is sampled.
    context: Option<Context>,
    start_before: Instant,
    answer: oneshot::Sender<Answer>,
}

/// Where requests for new users go.
#[derive(Debug, Clone)]
pub(crate) struct Creation {
    requests: mpsc::Sender<Request>,
    contended: mpsc::Sender<Request>,
    contended_addresses: ContendedAddresses,
}

/// Carries out the requests of one lane.
#[derive(Clone)]
pub(crate) struct Creator {
    requests: Arc<Mutex<mpsc::Receiver<Request>>>,
    contended_addresses: ContendedAddresses,
    /// For statements that many requests share: they wait briefly for locks.
    shared: Pool,
    lane: Lane,
}

#[derive(Clone)]
enum Lane {
    /// What can't be done briefly goes to the other lane. Weak, since this lane ends later.
    Main {
        contended: mpsc::WeakSender<Request>,
    },
    /// Its statements for a single request wait for locks a little longer.
    Contended { single: Pool },
}

/// The creators of both lanes, first the main one. `shared` and `single` differ in how long they
/// wait for a lock.
pub(crate) fn creation(shared: &Pool, single: Pool) -> (Creation, [Creator; 2]) {
    let contended_addresses = ContendedAddresses::default();
    let (requests, main) = mpsc::channel(QUEUE);
    let (contended, others) = mpsc::channel(QUEUE);
    let creator = |requests, lane| Creator {
        requests: Arc::new(Mutex::new(requests)),
        contended_addresses: contended_addresses.clone(),
        shared: shared.clone(),
        lane,
    };
    let main = creator(
        main,
        Lane::Main {
            contended: contended.downgrade(),
        },
    );
    let others = creator(others, Lane::Contended { single });
    let creation = Creation {
        requests,
        contended,
        contended_addresses,
    };
    (creation, [main, others])
}

impl Creation {
    pub(crate) async fn create(&self, user: NewUser) -> Answer {
        let (answer, answered) = oneshot::channel();
        let lane = if self.contended_addresses.contains(user.draft.email.normal()) {
            &self.contended
        } else {
            &self.requests
        };
        let request = Request {
            user,
            context: spans::current(),
            start_before: Instant::now() + MAX_QUEUE_TIME,
            answer,
        };
        let sent = lane.send(request).await;
        sent.map_err(|_| StoreError::Stopping)?;
        answered.await.map_err(|_| StoreError::Stopping)?
    }
}

impl Creator {
    /// Runs as long as anybody can ask, but no longer than `grace` after `shutdown`.
    pub(crate) async fn run(
        self,
        progress: Progress,
        shutdown: CancellationToken,
        grace: Duration,
    ) -> anyhow::Result<()> {
        let grace_over = async {
            shutdown.cancelled().await;
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            () = self.work(&progress) => {}
            () = grace_over => {}
        }
        // Nobody is left who could ask, unless this is on its way down.
        shutdown.cancelled().await;
        Ok(())
    }

    async fn work(&self, progress: &Progress) {
        let mut requests = Vec::with_capacity(BATCH);
        progress.idle();
        while self
            .requests
            .lock()
            .await
            .recv_many(&mut requests, BATCH)
            .await
            > 0
        {
            while !requests.is_empty() {
                progress.attempted();
                let batch = take_distinct(&mut requests);
                for email in self.create(batch).await {
                    refuse_locked(&mut requests, &email);
                }
                // Answers were given, if only that Postgres can't be reached.
                progress.succeeded();
            }
            progress.idle();
        }
    }

    /// One statement for all; should Postgres refuse it, one for each half, so that only the
    /// request that is refused fails. The addresses that are locked.
    async fn create(&self, batch: Vec<Request>) -> Vec<String> {
        let mut locked = Vec::new();
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            // Right before the statement: what nobody waits for is not begun.
            let mut part = still_wanted(part);
            match self.try_create(&part).await {
                Ok(answers) => {
                    for (request, answer) in part.into_iter().zip(answers) {
                        if matches!(self.lane, Lane::Contended { .. }) {
                            self.contended_addresses.remove(request.email());
                        }
                        reply(request, answer);
                    }
                }
                Err(StoreError::Locked) if self.hands_over(&mut part) => {}
                Err(StoreError::Refused(_) | StoreError::Locked) if part.len() > 1 => {
                    let half = part.split_off(part.len() / 2);
                    parts.extend([half, part]);
                }
                Err(error) => {
                    for request in part {
                        if matches!(error, StoreError::Locked) {
                            self.contended_addresses.insert(request.email());
                            locked.push(request.email().to_owned());
                        }
                        reply(request, Err(error.clone()));
                    }
                }
            }
        }
        locked
    }

    async fn try_create(&self, batch: &[Request]) -> Result<Vec<Answer>, StoreError> {
        let users: Vec<_> = batch.iter().map(|request| &request.user).collect();
        let pool = match &self.lane {
            Lane::Contended { single } if users.len() == 1 => single,
            _ => &self.shared,
        };
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let creating = async || store::create_at_once(&mut pool.acquire().await?, &users).await;
        let creating = retry_conflicts(creating, StoreError::is_conflict);
        // The statement shows below one request: a span has one parent.
        let context = batch.iter().find_map(|request| request.context.clone());
        spans::within(context, creating).await
    }

    /// Whether these requests are in the other lane now. What finds no room there stays.
    fn hands_over(&self, batch: &mut Vec<Request>) -> bool {
        let Lane::Main { contended } = &self.lane else {
            return false;
        };
        let Some(room) = contended.upgrade() else {
            return false;
        };
        let Ok(room) = room.try_reserve_many(batch.len()) else {
            return false;
        };
        for (place, request) in room.zip(batch.drain(..)) {
            self.contended_addresses.insert(request.email());
            place.send(request);
        }
        true
    }
}

impl Request {
    fn email(&self) -> &str {
        self.user.draft.email.normal()
    }
}

/// A client that went away does not need its answer.
fn reply(request: Request, answer: Answer) {
    if request.answer.send(answer).is_err() {
        tracing::debug!("nobody waits for the answer to a creation");
    }
}

/// Leaves out those whose client has gone or whose time is over.
fn still_wanted(batch: Vec<Request>) -> Vec<Request> {
    let now = Instant::now();
    let (wanted, late): (Vec<_>, Vec<_>) = (batch.into_iter())
        .filter(|request| !request.answer.is_closed())
        .partition(|request| request.start_before > now);
    for request in late {
        reply(request, Err(StoreError::TooLate));
    }
    wanted
}

/// Whoever asks for the same address would wait for the same lock.
fn refuse_locked(requests: &mut Vec<Request>, email: &str) {
    let same = |request: &mut Request| request.email() == email;
    for request in requests.extract_if(.., same) {
        reply(request, Err(StoreError::Locked));
    }
}

/// Leaves those for the next statement whose address is in this one already.
fn take_distinct(requests: &mut Vec<Request>) -> Vec<Request> {
    let mut emails = HashSet::with_capacity(requests.len());
    let (batch, rest) = std::mem::take(requests)
        .into_iter()
        .partition(|request| emails.insert(request.email().to_owned()));
    *requests = rest;
    batch
}

#[cfg(test)]
mod tests;
