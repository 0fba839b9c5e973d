//! What a service does with its messages.

use std::{borrow::Cow, time::Duration};

use async_nats::jetstream::stream;

use crate::Message;

/// What a service does with its messages. Any number of batches may be handled at once, here and in
/// other processes that share the durable consumer, and any message may come again: the handler's
/// effects have to be idempotent.
pub trait Handler: Send + Sync + 'static {
    /// Waits for, or prepares, what [`handle`](Self::handle) needs. Called at the start of each
    /// session, so it has to be harmless to repeat.
    ///
    /// # Errors
    /// If it can't be had now: the session ends, and another begins after a pause.
    fn prepare(&self) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Told of the stream's settings at the start of each session, to warn of those that do not
    /// suit the handler.
    fn stream_opened(&self, stream: &stream::Config) {
        let _ = stream;
    }

    /// One verdict per message, in order. Each is carried out before these messages are gone from
    /// memory; nothing is acknowledged before this returns.
    ///
    /// # Errors
    /// If the batch as a whole could not be handled. All of it is delivered again, so what has
    /// taken effect already must do no harm when it is repeated.
    fn handle(
        &self,
        batch: &[Message],
    ) -> impl Future<Output = Result<Vec<Verdict>, HandlerError>> + Send;

    /// Told what became of a message that [`handle`](Self::handle) has rejected: whether its dead
    /// letter is stored. If it is not, the message is delivered again.
    fn rejected(&self, message: &Message, is_stored: bool) {
        let _ = (message, is_stored);
    }
}

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It has taken effect for good: acknowledge it.
    Ack,
    /// It could not take effect now: deliver it again, not before `after`.
    Retry { after: Duration },
    /// It can never take effect: store it as a dead letter.
    Reject(Rejection),
}

/// Why a message can never take effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The kind of fault in one `snake_case` word, without anything from the message.
    pub category: Cow<'static, str>,
    /// For an operator; may quote the message. Cut after 500 characters when it is stored.
    pub reason: String,
}

impl Rejection {
    /// The library's own category: the client can't read the message's headers.
    pub const UNREADABLE_HEADERS: &str = "unreadable_headers";

    #[must_use]
    pub fn new(category: &'static str, reason: impl Into<String>) -> Self {
        Self {
            category: Cow::Borrowed(category),
            reason: reason.into(),
        }
    }
}

/// Why a whole batch was not handled.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// The batch exceeded a time limit: it is handed out again in smaller parts. A single message
    /// that is too slow ends the session.
    #[error("the batch exceeded its time limit")]
    TooSlow(#[source] anyhow::Error),
    /// What the handler needs does not answer: the session ends and gives back its messages, and
    /// another begins after a pause.
    #[error("the handler can't work now")]
    Unavailable(#[source] anyhow::Error),
}
