//! The projection as a handler of events.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_nats::jetstream::stream;
use event_consumer::{Handler, HandlerError, Message, Rejection, Verdict};
use shared_events::{UnreadableEvent, UserEvent};

use crate::{
    dead_letters::category::Category,
    mongo::Failure,
    projection::{Coalesced, Projection, ReceivedEvent, WriteOutcome},
};

/// How often events are run again at once when other writers interfere with all of them.
const MAX_ROUNDS: usize = 5;
/// No round begins later than this: verdicts are carried out when all rounds are over.
const MAX_TIME: Duration = Duration::from_secs(2);
/// When an event is delivered again that MongoDB did not take.
const RETRY_DELAY: Duration = Duration::from_secs(2);
const RETRY: Verdict = Verdict::Retry { after: RETRY_DELAY };

/// Applies events to the copy.
pub(crate) struct Projector {
    projection: Projection,
    tombstone_ttl: Duration,
}

impl Projector {
    pub(crate) fn new(projection: Projection, tombstone_ttl: Duration) -> Self {
        Self {
            projection,
            tombstone_ttl,
        }
    }

    /// Applies `events`, and enters the verdict on each by its place in the batch. Those that other
    /// writers interfered with are run again; after some rounds they are left as they are.
    async fn apply(
        &self,
        events: Vec<ReceivedEvent<usize>>,
        verdicts: &mut [Verdict],
    ) -> Result<(), Failure> {
        let mut coalesced = Coalesced::new(events);
        let mut idle_rounds = 0;
        let started = Instant::now();
        while !coalesced.is_empty() && idle_rounds < MAX_ROUNDS && started.elapsed() < MAX_TIME {
            let outcomes = self.projection.apply(&coalesced.newest()).await?;
            log_deferred(&outcomes);
            let is_idle = outcomes.iter().all(|it| *it == WriteOutcome::Contended);
            idle_rounds += usize::from(is_idle);
            let decided = coalesced.decide(outcomes);
            for place in decided.applied {
                verdicts[place] = Verdict::Ack;
            }
            for (place, refusal) in decided.refused {
                let rejection =
                    Rejection::new(Category::RefusedByMongodb.as_str(), refusal.to_string());
                verdicts[place] = Verdict::Reject(rejection);
            }
        }
        Ok(())
    }
}

impl Handler for Projector {
    async fn prepare(&self) -> anyhow::Result<()> {
        let prepare = self.projection.prepare(self.tombstone_ttl);
        prepare.await.context("waiting for MongoDB")
    }

    fn stream_opened(&self, stream: &stream::Config) {
        if stream.max_age.is_zero() || stream.max_age >= self.tombstone_ttl {
            tracing::warn!(
                max_age_s = stream.max_age.as_secs(),
                tombstone_ttl_s = self.tombstone_ttl.as_secs(),
                "the stream outlives the tombstones: a replay could bring deleted users back"
            );
        }
    }

    async fn handle(&self, batch: &[Message]) -> Result<Vec<Verdict>, HandlerError> {
        let mut verdicts = vec![RETRY; batch.len()];
        let mut events = Vec::with_capacity(batch.len());
        for (place, message) in batch.iter().enumerate() {
            match UserEvent::parse(message.payload()) {
                Ok(event) => events.push(ReceivedEvent {
                    event,
                    message: place,
                }),
                Err(unreadable) => verdicts[place] = Verdict::Reject(reject(&unreadable)),
            }
        }
        let has_unreadable = events.len() < batch.len();
        match self.apply(events, &mut verdicts).await {
            Ok(()) => Ok(verdicts),
            // What it has written by then does no harm when it is written again.
            Err(failure) if failure.is_time_limit() => {
                Err(HandlerError::TooSlow(waiting_for_mongodb(failure)))
            }
            // What can't be read need not wait for MongoDB: it is rejected, the rest comes again.
            Err(failure) if has_unreadable => {
                tracing::warn!(%failure, "MongoDB did not take events; trying again later");
                Ok(verdicts)
            }
            Err(failure) => Err(HandlerError::Unavailable(waiting_for_mongodb(failure))),
        }
    }
}

fn reject(unreadable: &UnreadableEvent) -> Rejection {
    Rejection::new(unreadable.category(), unreadable.to_string())
}

fn waiting_for_mongodb(failure: Failure) -> anyhow::Error {
    anyhow::Error::from(failure).context("waiting for MongoDB")
}

fn log_deferred(outcomes: &[WriteOutcome]) {
    let is_deferred = |it: &&WriteOutcome| matches!(it, WriteOutcome::Deferred { .. });
    if let Some(WriteOutcome::Deferred { code, message }) = outcomes.iter().find(is_deferred) {
        let events = outcomes.iter().filter(is_deferred).count();
        tracing::warn!(
            events,
            code,
            message,
            "MongoDB did not take events; trying again later"
        );
    }
}
