//! A message as a handler sees it.

use anyhow::Context as _;
use async_nats::{HeaderMap, HeaderValue, jetstream};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use service_runtime::nats::{
    Topic,
    headers::{CE_ID, CE_TIME, MESSAGE_ID, REPLAY_OF},
};

/// A message that was delivered and is not acknowledged yet.
#[derive(Debug)]
pub struct Message {
    pub(crate) original: jetstream::Message,
    delivery: Option<Delivery>,
    received_at: DateTime<Utc>,
}

/// What the server says of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// The message's place on the stream.
    pub stream_sequence: u64,
    /// When the stream stored it.
    pub published_at: DateTime<Utc>,
    /// How often it was delivered, this time included.
    pub deliveries: u64,
}

impl Message {
    pub(crate) fn new(original: jetstream::Message) -> Self {
        let delivery = original.info().ok().and_then(|info| {
            let published = i64::try_from(info.published.unix_timestamp_nanos());
            Some(Delivery {
                stream_sequence: info.stream_sequence,
                published_at: DateTime::from_timestamp_nanos(published.ok()?),
                deliveries: u64::try_from(info.delivered).ok()?,
            })
        });
        Self {
            original,
            delivery,
            received_at: Utc::now(),
        }
    }

    /// As it was published. Cloning it does not copy the bytes.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.original.payload
    }

    #[must_use]
    pub fn headers(&self) -> Option<&HeaderMap> {
        self.original.headers.as_ref()
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
        id(self.headers()?)
    }

    /// When the event was written, by its publisher's clock: `ce-time`, if it has one.
    #[must_use]
    pub fn written_at(&self) -> Option<DateTime<Utc>> {
        written_at(self.headers()?)
    }

    /// Whether it was rejected before, and is published again.
    #[must_use]
    pub fn is_replay(&self) -> bool {
        is_replay(&self.original.subject, self.headers())
    }

    /// `None` if the server does not say, which it always does.
    #[must_use]
    pub fn delivery(&self) -> Option<Delivery> {
        self.delivery
    }

    /// When this process received it.
    #[must_use]
    pub fn received_at(&self) -> DateTime<Utc> {
        self.received_at
    }

    /// Its place on the stream.
    ///
    /// # Errors
    /// If the server has sent it without one, which none does.
    pub fn stream_sequence(&self) -> anyhow::Result<u64> {
        let delivery = self.delivery.context("a delivery without its place")?;
        Ok(delivery.stream_sequence)
    }
}

/// Of a message with these headers, see [`Message::written_at`].
#[must_use]
pub fn written_at(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    let time = headers.get(CE_TIME)?.as_str();
    Some(DateTime::parse_from_rfc3339(time).ok()?.to_utc())
}

/// See [`Message::is_replay`].
#[must_use]
pub fn is_replay(subject: &str, headers: Option<&HeaderMap>) -> bool {
    let is_said = headers.is_some_and(|it| it.get(REPLAY_OF).is_some());
    is_said || Topic::is_of_replays(subject)
}

/// Of a message with these headers, see [`Message::id`].
pub(crate) fn id(headers: &HeaderMap) -> Option<&str> {
    let header = |name: &str| headers.get(name).map(HeaderValue::as_str);
    let id = header(CE_ID).or_else(|| header(REPLAY_OF));
    id.or_else(|| header(MESSAGE_ID))
}
