//! Dead letters as an operator meets them: listed, shown, published again or discarded.

pub(crate) mod api;
pub(crate) mod command;
pub(crate) mod headers;

use anyhow::Context as _;
use async_nats::{
    HeaderMap,
    jetstream::{
        Context, ErrorCode,
        message::StreamMessage,
        stream::{RawMessageError, RawMessageErrorKind, Stream},
    },
};
use bytes::Bytes;
use shared_events::{Topic, headers as event_headers};
use uuid::Uuid;

/// A message that could not be applied, with what is known about it.
#[derive(Debug)]
pub(crate) struct DeadLetter {
    /// Its place in the dead-letter stream, which names it.
    pub(crate) sequence: u64,
    pub(crate) reason: String,
    /// When it was set aside, RFC 3339.
    pub(crate) time: String,
    /// The stream that it came from, and its place there.
    pub(crate) stream: String,
    pub(crate) stream_sequence: Option<u64>,
    /// The original's, as far as they could be read and do not instruct the server.
    pub(crate) headers: HeaderMap,
    /// The original's, byte for byte.
    pub(crate) payload: Bytes,
}

/// The stream of dead letters.
#[derive(Debug, Clone)]
pub(crate) struct DeadLetters {
    jetstream: Context,
    source: Topic,
    topic: Topic,
}

impl DeadLetters {
    /// The dead letters of the events on `source`. There may be no stream of them yet.
    pub(crate) fn new(jetstream: Context, source: Topic) -> Self {
        Self {
            jetstream,
            topic: source.dead_letters(),
            source,
        }
    }

    /// The oldest first, only those behind the sequence `after`, at most `limit`.
    ///
    /// # Errors
    /// If `JetStream` does not answer.
    pub(crate) async fn list(&self, after: u64, limit: usize) -> anyhow::Result<Vec<DeadLetter>> {
        let stream = self.stream().await?;
        let mut letters = Vec::new();
        let mut after = after;
        while letters.len() < limit {
            let request = stream.raw_message_builder().sequence(after + 1);
            let next = request.next_by_subject(self.topic.subject.clone()).send();
            let Some(message) = found(next.await)? else {
                break;
            };
            after = message.sequence;
            letters.push(DeadLetter::from(message));
        }
        Ok(letters)
    }

    /// # Errors
    /// If `JetStream` does not answer.
    pub(crate) async fn find(&self, sequence: u64) -> anyhow::Result<Option<DeadLetter>> {
        let message = self.stream().await?.get_raw_message(sequence).await;
        Ok(found(message)?.map(DeadLetter::from))
    }

    /// Publishes the original bytes again as an event of a new id, and forgets the letter once
    /// `JetStream` has the event; its sequence there. A crash in between leaves both, which is
    /// harmless: an event that comes twice is applied once.
    ///
    /// # Errors
    /// If it is not known to be published, or could not be forgotten.
    pub(crate) async fn replay(&self, letter: DeadLetter) -> anyhow::Result<u64> {
        let mut headers = letter.headers;
        headers.insert(event_headers::MESSAGE_ID, Uuid::now_v7().to_string());
        headers.insert(event_headers::EXPECTED_STREAM, self.source.stream.as_str());
        let subject = self.source.subject.clone();
        let publish = self
            .jetstream
            .publish_with_headers(subject, headers, letter.payload);
        let published = publish.await?.await.context("publishing the event")?;
        let forgotten = self.discard(letter.sequence).await;
        forgotten.context("it is published, but still among the dead letters")?;
        Ok(published.sequence)
    }

    /// # Errors
    /// If `JetStream` does not answer, or there is no such letter.
    pub(crate) async fn discard(&self, sequence: u64) -> anyhow::Result<()> {
        self.stream().await?.delete_message(sequence).await?;
        Ok(())
    }

    async fn stream(&self) -> anyhow::Result<Stream<()>> {
        Ok(self
            .jetstream
            .get_stream_no_info(&self.topic.stream)
            .await?)
    }
}

/// Neither an empty place nor a stream that nobody has needed yet is an error.
fn found(answer: Result<StreamMessage, RawMessageError>) -> anyhow::Result<Option<StreamMessage>> {
    match answer {
        Ok(message) => Ok(Some(message)),
        Err(error) => match error.kind() {
            RawMessageErrorKind::NoMessageFound => Ok(None),
            RawMessageErrorKind::JetStream(cause)
                if cause.error_code() == ErrorCode::STREAM_NOT_FOUND =>
            {
                Ok(None)
            }
            _ => Err(error).context("reading the dead letters"),
        },
    }
}

impl From<StreamMessage> for DeadLetter {
    fn from(message: StreamMessage) -> Self {
        let header = |name: &str| {
            let value = message.headers.get(name);
            value.map(ToString::to_string).unwrap_or_default()
        };
        Self {
            sequence: message.sequence,
            reason: header(headers::REASON),
            time: header(headers::TIME),
            stream: header(headers::STREAM),
            stream_sequence: header(headers::STREAM_SEQUENCE).parse().ok(),
            headers: headers::harmless(&message.headers),
            payload: message.payload,
        }
    }
}
