//! The projection as a handler of events.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_nats::jetstream::stream;
use chrono::Utc;
use event_consumer::{Handler, HandlerError, Message, Rejection, Verdict};
use metrics::Counter;
use service_runtime::telemetry::decisions;
use shared_events::{UnreadableEvent, UserEvent};

use crate::{
    consumer::{HandledEvent, Outcome, RecentEvents},
    dead_letters::category::Category,
    metrics::EventMetrics,
    mongo::Failure,
    projection::{Applied, Coalesced, Decided, Projection, ReceivedEvent, WriteOutcome},
};

/// How often events are run again at once when other writers interfere with all of them.
const MAX_ROUNDS: usize = 5;
/// No round begins later than this: verdicts are carried out when all rounds are over.
const MAX_TIME: Duration = Duration::from_secs(2);
/// When an event is delivered again that MongoDB did not take.
const RETRY_DELAY: Duration = Duration::from_secs(2);
/// A replay is not applied in the last tenth of a tombstone's time.
const CLOCKS_DIFFER: u32 = 10;
const RETRY: Verdict = Verdict::Retry { after: RETRY_DELAY };

/// Applies events to the copy.
pub(crate) struct Projector {
    projection: Projection,
    tombstone_ttl: Duration,
    recent: RecentEvents,
    metrics: EventMetrics,
}

/// What is known of each message of a batch, by its place.
struct Batch {
    verdicts: Vec<Verdict>,
    handled: Vec<Option<HandledEvent>>,
}

impl Batch {
    /// All are to come again unless something else is said.
    fn new(messages: usize) -> Self {
        Self {
            verdicts: vec![RETRY; messages],
            handled: Vec::with_capacity(messages),
        }
    }

    fn acknowledge(&mut self, places: Vec<usize>, outcome: Outcome) {
        for place in places {
            self.verdicts[place] = Verdict::Ack;
            if let Some(handled) = &mut self.handled[place] {
                handled.outcome = outcome;
            }
        }
    }

    /// What becomes of it is known when its dead letter is stored.
    fn reject(&mut self, place: usize, rejection: Rejection) {
        self.verdicts[place] = Verdict::Reject(rejection);
        self.handled[place] = None;
    }
}

impl Projector {
    pub(crate) fn new(
        projection: Projection,
        tombstone_ttl: Duration,
        recent: RecentEvents,
    ) -> Self {
        Self {
            projection,
            tombstone_ttl,
            recent,
            metrics: EventMetrics::new(),
        }
    }

    /// Applies `events`, and enters the verdict on each by its place in the batch. Those that other
    /// writers interfered with are run again; after some rounds they are left as they are.
    async fn apply(
        &self,
        events: Vec<ReceivedEvent<usize>>,
        batch: &mut Batch,
    ) -> Result<(), Failure> {
        let mut coalesced = Coalesced::new(events);
        let mut idle_rounds = 0;
        let started = Instant::now();
        while !coalesced.is_empty() && idle_rounds < MAX_ROUNDS && started.elapsed() < MAX_TIME {
            let Applied { outcomes, stale } = self.projection.apply(&coalesced.newest()).await?;
            log_deferred(&outcomes);
            let contended = outcomes.iter().filter(|it| **it == WriteOutcome::Contended);
            let contended = contended.count();
            idle_rounds += usize::from(contended == outcomes.len());
            let decided = coalesced.decide(outcomes);
            self.count(&decided, stale, contended);
            let outcome = match stale == decided.applied.len() {
                true => Outcome::Stale,
                false => Outcome::Applied,
            };
            batch.acknowledge(decided.applied, outcome);
            batch.acknowledge(decided.superseded, Outcome::Superseded);
            for (place, refusal) in decided.refused {
                let category = Category::RefusedByMongodb.as_str();
                batch.reject(place, Rejection::new(category, refusal.to_string()));
            }
        }
        Ok(())
    }

    /// Whether the tombstone of a user who was deleted since may be gone: then a replay would bring the
    /// user back.
    fn is_too_old(&self, message: &Message, event: &UserEvent) -> bool {
        if !message.is_replay() || matches!(event, UserEvent::UserDeleted(_)) {
            return false;
        }
        let written_at = message.written_at().unwrap_or(event.state().updated_at);
        let age = (Utc::now() - written_at).to_std().unwrap_or_default();
        age >= self.tombstone_ttl - self.tombstone_ttl / CLOCKS_DIFFER
    }

    fn count(&self, decided: &Decided<usize>, stale: usize, contended: usize) {
        let count = |counter: &Counter, events: usize| counter.increment(events as u64);
        let metrics = &self.metrics;
        count(
            &metrics.applied,
            decided.applied.len().saturating_sub(stale),
        );
        count(&metrics.stale, stale);
        count(&metrics.superseded, decided.superseded.len());
        count(&metrics.contended, contended);
        count(&metrics.deferred, decided.deferred.len());
        count(&metrics.refused, decided.refused.len());
    }

    fn remember(&self, handled: Vec<Option<HandledEvent>>) {
        let applied_at = Utc::now();
        if decisions::are_recorded() {
            handled
                .iter()
                .flatten()
                .for_each(HandledEvent::record_decision);
        }
        let handled = handled.into_iter().flatten();
        let handled = handled.map(|event| event.known_at(applied_at));
        self.recent.remember(handled);
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

    async fn handle(&self, messages: &[Message]) -> Result<Vec<Verdict>, HandlerError> {
        let mut batch = Batch::new(messages.len());
        let mut events = Vec::with_capacity(messages.len());
        for (place, message) in messages.iter().enumerate() {
            let event = UserEvent::parse(message.payload());
            let handled = HandledEvent::delivered(message, event.as_ref().ok());
            batch.handled.push(handled);
            match event {
                Ok(event) if self.is_too_old(message, &event) => batch.reject(place, too_old()),
                Ok(event) => events.push(ReceivedEvent {
                    event,
                    message: place,
                }),
                Err(unreadable) => batch.reject(place, reject(&unreadable)),
            }
        }
        let has_rejected = events.len() < messages.len();
        let applied = self.apply(events, &mut batch).await;
        let is_too_slow = applied.as_ref().is_err_and(Failure::is_time_limit);
        if !is_too_slow {
            self.remember(batch.handled);
        }
        match applied {
            Ok(()) => Ok(batch.verdicts),
            // What it has written by then does no harm when it is written again.
            Err(failure) if is_too_slow => Err(HandlerError::TooSlow(waiting_for_mongodb(failure))),
            // What is rejected need not wait for MongoDB: the rest comes again.
            Err(failure) if has_rejected => {
                tracing::warn!(%failure, "MongoDB did not take events; trying again later");
                Ok(batch.verdicts)
            }
            Err(failure) => Err(HandlerError::Unavailable(waiting_for_mongodb(failure))),
        }
    }

    fn rejected(&self, message: &Message, is_stored: bool) {
        let event = UserEvent::parse(message.payload());
        let handled = HandledEvent::delivered(message, event.as_ref().ok());
        let outcome = match is_stored {
            true => Outcome::DeadLettered,
            false => Outcome::Retried,
        };
        self.remember(vec![handled.map(|it| it.with(outcome))]);
    }
}

fn reject(unreadable: &UnreadableEvent) -> Rejection {
    Rejection::new(unreadable.category(), unreadable.to_string())
}

fn too_old() -> Rejection {
    Rejection::new(
        Category::TooOld.as_str(),
        "the replay of an event that is about as old as tombstones become: if the user was deleted since, \
         nobody may know it any more; `notification-service verify --repair` has the user as the user \
         service has it"
            .to_owned(),
    )
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
            "MongoDB did not take events; trying again later"
        );
        // It may quote a document.
        tracing::debug!(code, message, "MongoDB did not take an event");
    }
}
