//! Dead letters as an operator meets them: listed, shown, published again or discarded.

mod command;
mod headers;
mod letter;
mod publish_error;
mod writer;

use anyhow::{Context as _, bail};
use async_nats::{
    HeaderMap,
    jetstream::{Context, context::PublishError, publish::PublishAck},
};
use bytes::Bytes;
use service_runtime::nats::{Topic, headers as event_headers};
use uuid::Uuid;

use self::publish_error::is_too_large;
use crate::raw_message;

pub(crate) use self::writer::{DeadLetterWriter, NewDeadLetter, Retry};
pub use self::{
    command::Command,
    letter::{DeadLetter, Payload},
};

/// What one page may read, lest a page of large letters exhaust the memory.
const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;

/// The stream of dead letters.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    jetstream: Context,
    source: Topic,
    topic: Topic,
}

/// Some of the letters, in order.
#[derive(Debug)]
pub struct Listing<T> {
    pub letters: Vec<T>,
    /// Whether there may be more behind the last.
    pub is_cut: bool,
}

impl DeadLetters {
    /// The dead letters of the messages on `source`. There may be no stream of them yet.
    pub fn new(jetstream: Context, source: Topic) -> Self {
        Self {
            jetstream,
            topic: source.dead_letters(),
            source,
        }
    }

    /// The oldest first, only those behind the sequence `after`: at most `limit`, and no more than
    /// a few megabytes read. Keeps of each only what `summarize` takes.
    ///
    /// # Errors
    /// If `JetStream` does not answer.
    pub async fn list<T>(
        &self,
        after: u64,
        limit: usize,
        summarize: impl Fn(DeadLetter) -> T,
    ) -> anyhow::Result<Listing<T>> {
        let mut letters = Vec::new();
        let (mut after, mut bytes) = (after, 0);
        let (stream, subject) = (&self.topic.stream, &self.topic.subject);
        while letters.len() < limit && bytes < MAX_PAGE_BYTES {
            let Some(message) =
                raw_message::next(&self.jetstream, stream, subject, after + 1).await?
            else {
                let is_cut = false;
                return Ok(Listing { letters, is_cut });
            };
            after = message.sequence;
            bytes += message.headers.len() + message.payload.len();
            letters.push(summarize(DeadLetter::from(message)));
        }
        let is_cut = true;
        Ok(Listing { letters, is_cut })
    }

    /// With the original, wherever it is kept.
    ///
    /// # Errors
    /// If `JetStream` does not answer.
    pub async fn find(&self, sequence: u64) -> anyhow::Result<Option<DeadLetter>> {
        let message = raw_message::at(&self.jetstream, &self.topic.stream, sequence).await?;
        let Some(mut letter) = message.map(DeadLetter::from) else {
            return Ok(None);
        };
        if let Payload::Referenced = letter.payload
            && let Some(original) = letter.stream_sequence
        {
            let original = raw_message::at(&self.jetstream, &letter.stream, original).await?;
            letter.restore(original);
        }
        Ok(Some(letter))
    }

    /// Publishes the original bytes again as a message of a new id, and forgets the letter once
    /// `JetStream` has the message; its sequence there. A crash in between leaves both, which is
    /// harmless: handlers are idempotent.
    ///
    /// # Errors
    /// If it is not known to be published, or could not be forgotten.
    pub async fn replay(&self, letter: DeadLetter) -> anyhow::Result<u64> {
        let Payload::Here(payload) = letter.payload else {
            bail!("its message is no longer on the stream {}", letter.stream);
        };
        let published = match self.publish(letter.headers, payload.clone()).await {
            // The headers only describe the message; without any, whatever came once fits again.
            Err(error) if is_too_large(&error) => {
                let subject = self.source.subject.clone();
                let publish = self.jetstream.publish(subject, payload).await;
                publish?.await
            }
            published => published,
        };
        let sequence = published.context("publishing the message")?.sequence;
        let forgotten = self.discard(letter.sequence).await;
        forgotten.context("it is published, but still among the dead letters")?;
        Ok(sequence)
    }

    async fn publish(
        &self,
        mut headers: HeaderMap,
        payload: Bytes,
    ) -> Result<PublishAck, PublishError> {
        headers.insert(event_headers::MESSAGE_ID, Uuid::now_v7().to_string());
        headers.insert(event_headers::EXPECTED_STREAM, self.source.stream.as_str());
        let subject = self.source.subject.clone();
        let publish = self
            .jetstream
            .publish_with_headers(subject, headers, payload);
        publish.await?.await
    }

    /// # Errors
    /// If `JetStream` does not answer, or there is no such letter.
    pub async fn discard(&self, sequence: u64) -> anyhow::Result<()> {
        let stream = self
            .jetstream
            .get_stream_no_info(&self.topic.stream)
            .await?;
        stream.delete_message(sequence).await?;
        Ok(())
    }
}
