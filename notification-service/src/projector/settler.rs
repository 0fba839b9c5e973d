//! Brings each message to its end: applied and acknowledged, set aside, or left to come again.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::{AckKind, Message};
use futures::future::try_join_all;
use service_runtime::progress::Progress;
use shared_events::{UnreadableEvent, UserEvent};
use tokio::time::Instant;

use super::{
    batch_size::BatchSize,
    dead_letter::{DeadLetters, Reason},
    deliveries::answer,
};
use crate::projection::{Delivered, Fold, Outcome, Projection};

/// How often events are run again at once when other writers interfere with all of them.
const MAX_ROUNDS: usize = 5;
/// When an event is delivered again that MongoDB did not take.
const DEFER_DELAY: Duration = Duration::from_secs(2);

pub(super) struct Settler {
    projection: Projection,
    dead_letters: DeadLetters,
    batch_size: Arc<BatchSize>,
    progress: Progress,
}

/// A failure that is not the messages' own, and those that it left as they were.
pub(super) struct Interrupted {
    pub(super) unsettled: Vec<Message>,
    pub(super) error: anyhow::Error,
}

/// What can't be answered is not given back either: it comes again after the ack wait.
impl From<anyhow::Error> for Interrupted {
    fn from(error: anyhow::Error) -> Self {
        Self {
            unsettled: Vec::new(),
            error,
        }
    }
}

impl Settler {
    pub(super) fn new(
        projection: Projection,
        dead_letters: DeadLetters,
        batch_size: Arc<BatchSize>,
        progress: Progress,
    ) -> Self {
        Self {
            projection,
            dead_letters,
            batch_size,
            progress,
        }
    }

    pub(super) async fn settle(&self, batch: Vec<Message>) -> Result<(), Interrupted> {
        let (events, unreadable) = parse(batch);
        // Neither waits for the other's server.
        let (applied, set_aside) = tokio::join!(self.apply(events), self.set_aside(unreadable));
        applied?;
        Ok(set_aside?)
    }

    /// In commands of the present batch size: what one has written is acknowledged before the next.
    async fn apply(&self, events: Vec<Delivered<Message>>) -> Result<(), Interrupted> {
        let mut fold = Fold::new(events);
        let mut idle_rounds = 0;
        while !fold.is_empty() && idle_rounds < MAX_ROUNDS {
            let newest = fold.newest();
            let now = newest.len().min(self.batch_size.get());
            let started = Instant::now();
            let mut outcomes = match self.projection.apply(&newest[..now]).await {
                Ok(outcomes) => outcomes,
                // What it has written by then does no harm when it is written again.
                Err(failure) if failure.is_time_limit() && self.batch_size.exceeded(now) => {
                    tracing::warn!(
                        events = now,
                        "MongoDB is slow; writing fewer events at once"
                    );
                    continue;
                }
                Err(failure) => {
                    if failure.is_late() {
                        self.batch_size.exceeded(now);
                    }
                    return Err(Interrupted {
                        unsettled: fold.into_messages(),
                        error: anyhow::Error::from(failure).context("waiting for MongoDB"),
                    });
                }
            };
            self.batch_size.took(now, started.elapsed());
            self.progress.succeeded();
            log_deferred(&outcomes);
            let is_idle = outcomes.iter().all(|it| *it == Outcome::Contended);
            idle_rounds += usize::from(is_idle);
            // Those that had no room stay as they are.
            outcomes.resize(newest.len(), Outcome::Contended);
            let decided = fold.decide(outcomes);
            answer(&decided.applied, AckKind::Ack).await?;
            answer(&decided.deferred, AckKind::Nak(Some(DEFER_DELAY))).await?;
            self.set_aside(decided.refused).await?;
        }
        let contended = fold.into_messages();
        Ok(answer(&contended, AckKind::Nak(Some(DEFER_DELAY))).await?)
    }

    async fn set_aside(&self, poison: Vec<(Message, impl Into<Reason>)>) -> anyhow::Result<()> {
        let set_aside = poison.into_iter().map(async |(message, reason)| {
            self.dead_letters.set_aside(&message, reason.into()).await
        });
        try_join_all(set_aside).await.map(drop)
    }
}

type Unreadable = (Message, UnreadableEvent);

fn parse(batch: Vec<Message>) -> (Vec<Delivered<Message>>, Vec<Unreadable>) {
    let mut events = Vec::with_capacity(batch.len());
    let mut unreadable = Vec::new();
    for message in batch {
        match UserEvent::parse(&message.payload) {
            Ok(event) => events.push(Delivered { event, message }),
            Err(reason) => unreadable.push((message, reason)),
        }
    }
    (events, unreadable)
}

fn log_deferred(outcomes: &[Outcome]) {
    let is_deferred = |it: &&Outcome| matches!(it, Outcome::Deferred { .. });
    if let Some(Outcome::Deferred { code, message }) = outcomes.iter().find(is_deferred) {
        let events = outcomes.iter().filter(is_deferred).count();
        tracing::warn!(
            events,
            code,
            message,
            "MongoDB did not take events; trying again later"
        );
    }
}
