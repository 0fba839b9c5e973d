//! The headers of an event: JetStream's own, `CloudEvents` 1.0 in binary mode (the NATS protocol
//! binding: <https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/nats-protocol-binding.md>)
//! and W3C trace context.

/// The event's id (`UUIDv7`). `JetStream` drops a repeat of it within its duplicate window.
pub const MESSAGE_ID: &str = "Nats-Msg-Id";
/// On a replay of a dead letter, which has a message id of its own: the message id of the original.
pub const REPLAY_OF: &str = "Replay-Of";
/// Refuses the message if the subject has come to lead into another stream.
pub const EXPECTED_STREAM: &str = "Nats-Expected-Stream";
/// Refuses the message unless the stream ends at exactly this sequence.
pub const EXPECTED_LAST_SEQUENCE: &str = "Nats-Expected-Last-Sequence";

pub const CE_SPEC_VERSION: &str = "ce-specversion";
pub const CE_ID: &str = "ce-id";
pub const CE_SOURCE: &str = "ce-source";
pub const CE_TYPE: &str = "ce-type";
pub const CE_TIME: &str = "ce-time";
pub const CE_SUBJECT: &str = "ce-subject";
/// The event's id in the ledger, in decimal.
pub const CE_OUTBOX_ID: &str = "ce-outboxid";
pub const CE_AGGREGATE_TYPE: &str = "ce-aggregatetype";
/// The aggregate's version, if the event has one, in decimal.
pub const CE_AGGREGATE_VERSION: &str = "ce-aggregateversion";

/// The one `CloudEvents` version that is spoken.
pub const CE_SPEC_VERSION_1: &str = "1.0";

/// W3C trace context of the request that caused the event, where it had one.
pub use crate::telemetry::trace_context::{TRACEPARENT, TRACESTATE};
