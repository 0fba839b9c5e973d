//! Dead letters as an operator meets them: listed, shown, published again or discarded.
//!
//! Each belongs to the consumer that rejected the message. All are on one stream, with a subject
//! for each consumer: `dead-letters.<subject>.<consumer>`. A replay is published on
//! `replay.<subject>.<consumer>`, which the stream of the events captures as well and only this
//! consumer reads.

mod command;
mod count;
mod headers;
mod letter;
mod publish_error;
mod replay;
mod writer;

use anyhow::Context as _;
use async_nats::jetstream::Context;
use service_runtime::nats::{ConsumerName, Topic};

use crate::raw_message::{self, RawMessage};

#[cfg(any(test, fuzzing))]
pub(crate) use self::writer::fuzzing;
pub use self::{
    command::Command,
    letter::{DeadLetter, Payload},
};
pub(crate) use self::{
    count::count,
    writer::{DeadLetterWriter, NewDeadLetter, Retry},
};

/// What one page may read, lest a page of large letters exhaust the memory.
const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;

/// The dead letters of one consumer.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    jetstream: Context,
    source: Topic,
    consumer: ConsumerName,
    stream: String,
    /// The consumer's own, and that of earlier releases, which did not tell consumers apart: those
    /// letters are shown to each.
    subjects: [String; 2],
}

/// Some of the letters, in order.
#[derive(Debug)]
pub struct Listing<T> {
    pub letters: Vec<T>,
    /// Whether there are more behind the last.
    pub is_cut: bool,
}

impl DeadLetters {
    /// Those of the messages on `source` that `consumer` rejected. There may be no stream of them
    /// yet.
    #[must_use]
    pub fn new(jetstream: Context, source: Topic, consumer: ConsumerName) -> Self {
        Self {
            jetstream,
            stream: source.dead_letters().stream,
            subjects: subjects(&source, &consumer),
            source,
            consumer,
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
        let next = async |subject, after| {
            raw_message::next(&self.jetstream, &self.stream, subject, after + 1).await
        };
        let [own, earlier] = &self.subjects;
        let mut heads = [
            (own, next(own, after).await?),
            (earlier, next(earlier, after).await?),
        ];
        let (mut letters, mut bytes) = (Vec::new(), 0);
        while letters.len() < limit && bytes < MAX_PAGE_BYTES {
            let (subject, head) = first(&mut heads);
            let Some(message) = head.take() else { break };
            *head = next(subject, message.sequence).await?;
            bytes += message.headers.len() + message.payload.len();
            letters.push(summarize(DeadLetter::from(message)));
        }
        let is_cut = heads.iter().any(|(_, head)| head.is_some());
        Ok(Listing { letters, is_cut })
    }

    /// With the original, wherever it is kept. `None` if there is no such letter, or it is another
    /// consumer's.
    ///
    /// # Errors
    /// If `JetStream` does not answer.
    pub async fn find(&self, sequence: u64) -> anyhow::Result<Option<DeadLetter>> {
        let message = raw_message::at(&self.jetstream, &self.stream, sequence).await?;
        let is_own = |message: &RawMessage| self.subjects.contains(&message.subject);
        let Some(mut letter) = message.filter(is_own).map(DeadLetter::from) else {
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

    /// Publishes the original bytes again for this consumer alone, as a message of a new id, and
    /// forgets the letter once `JetStream` has the message; its sequence there. A crash in between
    /// leaves both, which is harmless: handlers are idempotent.
    ///
    /// # Errors
    /// If it is not known to be published, or could not be forgotten.
    pub async fn replay(&self, letter: DeadLetter) -> anyhow::Result<u64> {
        let sequence =
            replay::publish(&self.jetstream, &self.source, &self.consumer, &letter).await?;
        let forgotten = self.discard(letter).await;
        forgotten.context("it is published, but still among the dead letters")?;
        Ok(sequence)
    }

    /// Forgets it for good.
    ///
    /// # Errors
    /// If `JetStream` does not answer, or there is no such letter any more.
    pub async fn discard(&self, letter: DeadLetter) -> anyhow::Result<()> {
        let stream = self.jetstream.get_stream_no_info(&self.stream).await?;
        stream.delete_message(letter.sequence).await?;
        Ok(())
    }
}

fn subjects(source: &Topic, consumer: &ConsumerName) -> [String; 2] {
    [consumer.dead_letters(source), source.dead_letters().subject]
}

type Head<'a> = (&'a String, Option<RawMessage>);

/// The head that comes first on the stream.
fn first<'a, 'b>(heads: &'b mut [Head<'a>; 2]) -> (&'a String, &'b mut Option<RawMessage>) {
    let sequence = |(_, head): &Head<'_>| head.as_ref().map_or(u64::MAX, |it| it.sequence);
    let place = usize::from(sequence(&heads[1]) < sequence(&heads[0]));
    let (subject, head) = &mut heads[place];
    (*subject, head)
}
