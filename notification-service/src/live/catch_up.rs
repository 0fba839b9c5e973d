//! What a client missed while it was away, found by a change stream of its own.
//!
//! Such a stream costs MongoDB and a connection, so clients take turns. A turn ends when the shared
//! change stream is reached, with a bounded number of changes, or after a bounded time, and never
//! waits for the client to read: one that has missed more takes another turn.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use tokio::{
    sync::{Semaphore, broadcast::Receiver},
    time::{self, Instant},
};

use super::{Broken, Change, Changes, Live, Signal, Token};

/// Clients that catch up at once; the others wait for their turn.
pub(super) const MAX_CATCH_UPS: u32 = 8;
/// How long a client waits for its turn before it is asked to come again.
const QUEUE_DEADLINE: Duration = Duration::from_secs(5);
/// How long the shared change stream may take to be open.
const OPEN_DEADLINE: Duration = Duration::from_secs(5);
/// What one turn may find; held in memory until the client has read it.
const MAX_CHANGES: usize = 256;
const MAX_BYTES: usize = 1024 * 1024;
const MAX_TURN: Duration = Duration::from_secs(3);
/// With what the driver may take beyond that.
const TURN_DEADLINE: Duration = Duration::from_secs(10);
/// Short, since the end of what was missed shows only by an answer without changes.
const AWAIT_TIME: Duration = Duration::from_millis(20);

/// What one turn has brought.
#[derive(Debug)]
pub(super) struct CaughtUp {
    pub(super) changes: VecDeque<Change>,
    /// Up to here all is known with these changes.
    pub(super) last: Token,
    /// The shared change stream, if it has been reached.
    pub(super) shared: Option<Receiver<Signal>>,
}

#[derive(Debug)]
pub(super) enum Interrupted {
    /// MongoDB can't go on from there.
    Lost,
    Failed(anyhow::Error),
}

pub(super) fn semaphore() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(MAX_CATCH_UPS as usize))
}

impl Live {
    /// Finds what came behind `last`. The caller listens meanwhile.
    pub(super) async fn catch_up(&self, last: Token) -> Result<CaughtUp, Interrupted> {
        let position = self.position().await.map_err(Interrupted::Failed)?;
        if position == last
            && let Some(shared) = self.shared_at(&last)
        {
            return Ok(CaughtUp {
                changes: VecDeque::new(),
                last,
                shared: Some(shared),
            });
        }
        let permit = self.0.catch_ups.clone().acquire_owned();
        let permit = time::timeout(QUEUE_DEADLINE, permit).await;
        let permit = permit
            .map_err(|_| Interrupted::Failed(anyhow!("too many clients are catching up")))?
            .map_err(|error| Interrupted::Failed(error.into()))?;
        let live = self.clone();
        // In a task of its own: a client that goes away or does not read must not leave a question
        // to MongoDB half done, nor keep the permit.
        let turn = tokio::spawn(async move {
            let outcome = live.take_turn(last).await;
            drop(permit);
            outcome
        });
        match time::timeout(TURN_DEADLINE, turn).await {
            Ok(Ok(outcome)) => Ok(outcome?),
            Ok(Err(ended)) => std::panic::resume_unwind(ended.into_panic()),
            Err(_) => Err(Interrupted::Failed(anyhow!(
                "MongoDB did not answer in time"
            ))),
        }
    }

    async fn take_turn(&self, last: Token) -> Result<CaughtUp, Broken> {
        let end = Instant::now() + MAX_TURN;
        let opened = Changes::open(&self.0.copy, Some(&last), AWAIT_TIME).await;
        // To get there MongoDB may have to read more of its oplog than it can in time, and would each time that
        // the client came again. If it is away, starting over fails too.
        let mut stream = opened.map_err(Broken::lost)?;
        let mut found = CaughtUp {
            changes: VecDeque::new(),
            last,
            shared: None,
        };
        let mut bytes = 0;
        loop {
            if let Some(position) = stream.position() {
                found.last = position.max(found.last);
            }
            found.shared = self.shared_at(&found.last);
            let is_full = found.changes.len() >= MAX_CHANGES || bytes >= MAX_BYTES;
            if found.shared.is_some() || is_full || Instant::now() >= end {
                return Ok(found);
            }
            if let Some(change) = stream.next_if_any().await? {
                bytes += change.body.len();
                found.last = change.token.clone().max(found.last);
                found.changes.push_back(change);
            }
        }
    }

    /// The shared change stream, if nothing that it has passed lies behind `last`. In this order:
    /// what comes between the two looks is received, and passed over as known.
    fn shared_at(&self, last: &Token) -> Option<Receiver<Signal>> {
        let has_reached = || (self.0.position.borrow().as_ref()).is_some_and(|it| it <= last);
        if !has_reached() {
            return None;
        }
        let receiver = self.0.followers.subscribe();
        has_reached().then_some(receiver)
    }

    /// Where the shared change stream is, once it is open.
    pub(super) async fn position(&self) -> anyhow::Result<Token> {
        let mut position = self.0.position.subscribe();
        let open = position.wait_for(Option::is_some);
        let open = time::timeout(OPEN_DEADLINE, open).await;
        let position = open.context("the change stream is not open")??;
        position.clone().context("the change stream was closed")
    }
}

impl From<Broken> for Interrupted {
    fn from(broken: Broken) -> Self {
        if broken.is_lost {
            Self::Lost
        } else {
            Self::Failed(broken.error)
        }
    }
}
