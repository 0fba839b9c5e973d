//! What became of one delivery of an event.

use chrono::{DateTime, SecondsFormat, Utc};
use event_consumer::Message;
use serde::{Serialize, Serializer};
use service_runtime::telemetry::decisions;
use shared_events::UserEvent;
use utoipa::ToSchema;
use uuid::Uuid;

/// One delivery of an event to this process, and what became of it. Holds nothing personal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct HandledEvent {
    /// Null if the message has no id, or one that is no UUID.
    #[schema(value_type = Option<String>, format = "uuid", nullable)]
    pub(super) event_id: Option<Uuid>,
    /// The user's id; null if the message is no event.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = Option<String>, nullable, example = "1")]
    aggregate_id: Option<i64>,
    /// The user's version; null if the message is no event.
    #[schema(nullable, minimum = 1)]
    version: Option<i64>,
    /// Its place on the stream.
    sequence: u64,
    /// When the stream stored it.
    #[serde(serialize_with = "in_microseconds")]
    published_at: DateTime<Utc>,
    /// When this process received it.
    #[serde(serialize_with = "in_microseconds")]
    delivered_at: DateTime<Utc>,
    /// When the outcome was known.
    #[serde(serialize_with = "in_microseconds")]
    applied_at: DateTime<Utc>,
    pub(crate) outcome: Outcome,
    /// How often it was delivered until then, to any process.
    deliveries: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// The copy has it. Of several events that are written together `MongoDB` says only how many were
    /// stale: unless all of them were, they are told as applied.
    Applied,
    /// The copy had this version of the user or a later one already.
    Stale,
    /// A later event of the same user came with it and was written instead.
    Superseded,
    /// It could not be applied now and is delivered again.
    Retried,
    /// It can never be applied: it is stored as a dead letter.
    DeadLettered,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Stale => "stale",
            Self::Superseded => "superseded",
            Self::Retried => "retried",
            Self::DeadLettered => "dead_lettered",
        }
    }
}

impl HandledEvent {
    /// A delivery that came just now; `None` if the server does not say what it is one of.
    pub(crate) fn delivered(message: &Message, event: Option<&UserEvent>) -> Option<Self> {
        let delivery = message.delivery()?;
        let state = event.map(UserEvent::state);
        Some(Self {
            event_id: message.id().and_then(|id| id.parse().ok()),
            aggregate_id: state.map(|state| state.id),
            version: state.map(|state| state.version),
            sequence: delivery.stream_sequence,
            published_at: delivery.published_at,
            delivered_at: message.received_at(),
            applied_at: message.received_at(),
            outcome: Outcome::Retried,
            deliveries: delivery.deliveries,
        })
    }

    #[cfg(test)]
    pub(super) fn example(event_id: Uuid) -> Self {
        Self {
            event_id: Some(event_id),
            aggregate_id: Some(1),
            version: Some(1),
            sequence: 1,
            published_at: DateTime::UNIX_EPOCH,
            delivered_at: DateTime::UNIX_EPOCH,
            applied_at: DateTime::UNIX_EPOCH,
            outcome: Outcome::Applied,
            deliveries: 1,
        }
    }

    pub(crate) fn with(self, outcome: Outcome) -> Self {
        Self { outcome, ..self }
    }

    /// The outcome was known at this time.
    pub(crate) fn known_at(self, applied_at: DateTime<Utc>) -> Self {
        Self { applied_at, ..self }
    }

    /// For `protocol-model`, which knows what is allowed.
    pub(crate) fn record_decision(&self) {
        tracing::trace!(
            target: decisions::TARGET,
            decision = self.outcome.as_str(),
            stream_sequence = self.sequence,
            user_id = self.aggregate_id,
            version = self.version,
        );
    }
}

fn as_text<S: Serializer>(id: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    match id {
        Some(id) => serializer.collect_str(id),
        None => serializer.serialize_none(),
    }
}

fn in_microseconds<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Micros, true))
}
