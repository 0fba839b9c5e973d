//! Setting a message aside that can never be applied.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::{
    HeaderMap, HeaderName, HeaderValue,
    datetime::DateTime,
    jetstream::{
        AckKind, Context, Message,
        context::{PublishError, PublishErrorKind},
        stream::Stream,
    },
};
use bytes::Bytes;
use chrono::{SecondsFormat, Utc};
use service_runtime::stream::{self, StreamSettings};
use shared_events::{Topic, UnreadableEvent, headers::MESSAGE_ID};

use crate::{dead_letters::headers, projection::Refusal};

const MAX_REASON_CHARS: usize = 500;
/// Dead letters wait for a person, who may be on holiday.
const MAX_AGE: Duration = Duration::from_hours(90 * 24);
/// When what could not be set aside is delivered again.
const RETRY_DELAY: Duration = Duration::from_secs(1);
const TOO_LARGE_DELAY: Duration = Duration::from_mins(1);

#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Reason {
    #[error(transparent)]
    Unreadable(#[from] UnreadableEvent),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("headers that the client can't read")]
    UnreadableHeaders,
}

impl Reason {
    /// For logs, which must hold nothing of the message itself.
    fn kind(&self) -> &'static str {
        match self {
            Self::Unreadable(UnreadableEvent::NotJson(_)) => "not JSON",
            Self::Unreadable(UnreadableEvent::UnknownType(_)) => "unknown event type",
            Self::Unreadable(UnreadableEvent::WrongShape(_)) => "not shaped like an event",
            Self::Refused(_) => "refused by MongoDB",
            Self::UnreadableHeaders => "unreadable headers",
        }
    }
}

/// The stream that keeps the dead letters.
#[derive(Debug, Clone)]
pub(super) struct DeadLetters {
    jetstream: Context,
    topic: Topic,
}

impl DeadLetters {
    /// Creates the stream or brings it up to date, as safe as `source` is.
    pub(super) async fn open(
        jetstream: &Context,
        source: &Stream,
        topic: &Topic,
    ) -> anyhow::Result<Self> {
        let topic = topic.dead_letters();
        let settings = StreamSettings {
            replicas: source.cached_info().config.num_replicas,
            max_age: MAX_AGE,
            ..StreamSettings::default()
        };
        stream::create_or_update(jetstream, &topic, &settings)
            .await
            .context("the dead-letter stream")?;
        Ok(Self {
            jetstream: jetstream.clone(),
            topic,
        })
    }

    /// Stores `message` with its reason, then ends its delivery. In this order a crash repeats and
    /// loses nothing; the repeat carries the same message id.
    ///
    /// # Errors
    /// If it can't be stored now: it is delivered again later. A message that has no room for the
    /// reason beside it is no error, lest it hold up the others, but comes again all the same.
    pub(super) async fn set_aside(&self, message: &Message, reason: Reason) -> anyhow::Result<()> {
        let info = message.info().map_err(anyhow::Error::from_boxed)?;
        let letter = DeadLetter {
            headers: original_headers(message.headers.as_ref()),
            payload: message.payload.clone(),
            stream: info.stream,
            sequence: info.stream_sequence,
            published: info.published,
            reason,
        };
        let (answer, outcome) = match self.store(letter).await {
            Ok(()) => (AckKind::Term, Ok(())),
            Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                let sequence = info.stream_sequence;
                tracing::error!(
                    sequence,
                    "too large to be set aside: raise max_payload of NATS"
                );
                (AckKind::Nak(Some(TOO_LARGE_DELAY)), Ok(()))
            }
            Err(error) => (AckKind::Nak(Some(RETRY_DELAY)), Err(error)),
        };
        let answered = message.ack_with(answer).await;
        answered.map_err(anyhow::Error::from_boxed)?;
        outcome.context("setting a message aside")
    }

    /// # Errors
    /// If it is not known to be stored. Harmless to repeat.
    pub(super) async fn store(&self, letter: DeadLetter<'_>) -> Result<(), PublishError> {
        let (reason, sequence) = (letter.reason.kind(), letter.sequence);
        let payload = letter.payload.clone();
        let (subject, headers) = (self.topic.subject.clone(), letter.into_headers());
        let publish = self
            .jetstream
            .publish_with_headers(subject, headers, payload);
        let stored = publish.await?.await?;
        if !stored.duplicate {
            let dead_letter = stored.sequence;
            tracing::error!(sequence, reason, dead_letter, "set a message aside");
        }
        Ok(())
    }
}

pub(super) struct DeadLetter<'a> {
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
    pub(super) stream: &'a str,
    pub(super) sequence: u64,
    pub(super) published: DateTime,
    pub(super) reason: Reason,
}

impl DeadLetter<'_> {
    fn into_headers(self) -> HeaderMap {
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
        // With the time, because a stream that is created anew counts from 1 again.
        let id = format!("{}-{}-{}", self.stream, self.sequence, self.published);
        let mut headers = self.headers;
        headers.insert(MESSAGE_ID, printable(&id));
        headers.insert(headers::REASON, printable(&self.reason.to_string()));
        headers.insert(headers::TIME, now);
        headers.insert(headers::STREAM, self.stream);
        headers.insert(headers::STREAM_SEQUENCE, self.sequence.to_string());
        headers
    }
}

fn original_headers(original: Option<&HeaderMap>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, values) in original.into_iter().flat_map(HeaderMap::iter) {
        for value in values {
            headers.append(kept_name(name), value.clone());
        }
    }
    headers
}

fn kept_name(name: &HeaderName) -> HeaderName {
    let text: &str = name.as_ref();
    if headers::has_prefix(text, headers::SERVER) {
        let renamed = format!("{}{text}", headers::ORIGINAL).parse();
        return renamed.unwrap_or_else(|_| unreachable!("a valid name stays so with a prefix"));
    }
    name.clone()
}

/// Header values hold no line breaks.
fn printable(text: &str) -> HeaderValue {
    let visible = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let bounded: String = visible.take(MAX_REASON_CHARS).collect();
    bounded.into()
}
