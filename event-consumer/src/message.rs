//! A message as a handler sees it.

use async_nats::{HeaderMap, jetstream};
use bytes::Bytes;
use service_runtime::nats::headers::{CE_ID, MESSAGE_ID, REPLAY_OF};

/// A message that was delivered and is not acknowledged yet.
#[derive(Debug)]
pub struct Message(pub(crate) jetstream::Message);

impl Message {
    /// As it was published. Cloning it does not copy the bytes.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.0.payload
    }

    #[must_use]
    pub fn headers(&self) -> Option<&HeaderMap> {
        self.0.headers.as_ref()
    }

    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        Some(self.headers()?.get(name)?.as_str())
    }

    /// The publisher's id for the event: `ce-id`, or `Nats-Msg-Id` if it has none. It stays the same
    /// when the message is delivered again, when the event is published again because the stream had
    /// lost it, and when it is replayed after it was rejected.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        let id = self.header(CE_ID).or_else(|| self.header(REPLAY_OF));
        id.or_else(|| self.header(MESSAGE_ID))
    }

    /// Its place on the stream.
    ///
    /// # Errors
    /// If the server has sent it without one, which none does.
    pub fn stream_sequence(&self) -> anyhow::Result<u64> {
        let info = self.0.info().map_err(anyhow::Error::from_boxed)?;
        Ok(info.stream_sequence)
    }
}
