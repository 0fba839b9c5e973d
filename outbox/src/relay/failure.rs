//! What can go wrong while the relay is active, and with that what is to be done.

use std::time::Duration;

use async_nats::jetstream::{
    self, ErrorCode,
    context::{PublishError, PublishErrorKind},
};

#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Another relay is active: stand by.
    #[error("the lease has passed to another relay")]
    LeaseLost,
    /// What the session knows no longer counts: begin another one, which finds out whether the lease is
    /// still held.
    #[error("another session of the stream has begun")]
    SessionOver,
    /// `JetStream` will never take this event: park it after a few tries.
    #[error("JetStream refuses event {id}: {reason}")]
    Refused { id: i64, reason: String },
    /// Acknowledged events are gone: look for the last that is there, and go on from it.
    #[error("the stream does not end where it was left")]
    StreamChanged,
    /// Messages have left the stream before their time: publish their events again.
    #[error("messages have left the stream before their time")]
    MessagesMissing,
    /// The ledger is not the one that was read before: find the part of it that is.
    #[error("the outbox was restored to an earlier state")]
    LedgerChanged,
    /// Events get ids that were passed already, whichever streams passed them: all sessions have to end.
    #[error("the sequence of the outbox is behind the cursor")]
    SequenceBehind,
    /// Events may come in another order than their ids: all sessions have to end until it is repaired.
    #[error("the sequence of the outbox has a cache")]
    SequenceCached,
    /// Somebody else has published events that the outbox does not have: restate their aggregates.
    #[error("there are events on the stream that the outbox does not have")]
    Orphans,
    /// The stream belongs to another ledger, or to another database of this one.
    #[error("{0}")]
    Foreign(String),
    /// Unknown whether it was stored: publish it again, under the same id.
    #[error("no acknowledgement: {0}")]
    Unacknowledged(#[source] PublishError),
    #[error("the stream can't be had: {0}")]
    JetStream(String),
    #[error("no answer from Postgres: {0}")]
    Database(#[from] sqlx::Error),
}

impl Failure {
    /// A publish that failed: for what the event is, or for what happened to it on the way?
    /// Only the former is a reason to park; in doubt it is the latter, and tried for ever.
    pub(super) fn of_publish(id: i64, error: PublishError) -> Self {
        if is_refusal(&error) {
            return Self::Refused {
                id,
                reason: error.to_string(),
            };
        }
        Self::Unacknowledged(error)
    }
}

/// Bounds a step that talks to `JetStream`: a client's own deadlines do not cover a connection that
/// takes no more data.
pub(super) async fn within<T, E: Into<Failure>>(
    deadline: Duration,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(deadline, answer).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(Failure::JetStream(format!("no answer within {deadline:?}"))),
    }
}

fn is_refusal(error: &PublishError) -> bool {
    const FOR_WHAT_IT_IS: [ErrorCode; 2] = [
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM,
        ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM,
    ];
    let code = std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<jetstream::Error>())
        .map(jetstream::Error::error_code);
    error.kind() == PublishErrorKind::MaxPayloadExceeded
        || code.is_some_and(|code| FOR_WHAT_IT_IS.contains(&code))
}
