//! Setting a message aside that can never be applied.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::{
    HeaderMap, HeaderName, HeaderValue,
    jetstream::{AckKind, Context, Message, stream::Stream},
};
use chrono::{SecondsFormat, Utc};
use service_runtime::stream::{self, StreamSettings};
use shared_events::{Topic, UnreadableEvent, headers};

use crate::projection::Refusal;

/// Why it can never be applied.
const REASON: &str = "Dead-Letter-Reason";
/// When it was set aside, RFC 3339.
const TIME: &str = "Dead-Letter-Time";
/// The stream that it came from, and its sequence there.
const STREAM: &str = "Dead-Letter-Stream";
const STREAM_SEQUENCE: &str = "Dead-Letter-Stream-Sequence";
/// Goes before the original's headers that would instruct the server: a rollup would erase other
/// dead letters, an expected stream would refuse this one.
const ORIGINAL: &str = "Dead-Letter-Original-";
const SERVER_PREFIX: &str = "Nats-";

const MAX_REASON_CHARS: usize = 500;
/// Dead letters wait for a person, who may be on holiday.
const MAX_AGE: Duration = Duration::from_hours(90 * 24);
/// When what could not be set aside is delivered again.
const RETRY_DELAY: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Reason {
    #[error(transparent)]
    Unreadable(#[from] UnreadableEvent),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Reason {
    /// For logs, which must hold nothing of the message itself.
    fn kind(&self) -> &'static str {
        match self {
            Self::Unreadable(UnreadableEvent::NotJson(_)) => "not JSON",
            Self::Unreadable(UnreadableEvent::UnknownType(_)) => "unknown event type",
            Self::Unreadable(UnreadableEvent::WrongShape(_)) => "not shaped like an event",
            Self::Refused(_) => "refused by MongoDB",
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
    /// loses nothing; the repeat carries the same message id. If it can't be stored now, the
    /// message is delivered again later.
    pub(super) async fn set_aside(&self, message: &Message, reason: &Reason) -> anyhow::Result<()> {
        let answer = match self.store(message, reason).await {
            Ok(()) => AckKind::Term,
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(error, "a message can be neither applied nor set aside");
                AckKind::Nak(Some(RETRY_DELAY))
            }
        };
        message
            .ack_with(answer)
            .await
            .map_err(anyhow::Error::from_boxed)
    }

    async fn store(&self, message: &Message, reason: &Reason) -> anyhow::Result<()> {
        let origin = message.info().map_err(anyhow::Error::from_boxed)?;
        let (stream, sequence) = (origin.stream, origin.stream_sequence);
        let mut headers = original_headers(message.headers.as_ref());
        headers.insert(REASON, printable(&reason.to_string()));
        headers.insert(
            TIME,
            Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
        );
        headers.insert(STREAM, stream);
        headers.insert(STREAM_SEQUENCE, sequence.to_string());
        // With the time, because a stream that is created anew counts from 1 again.
        let id = format!("{stream}-{sequence}-{}", origin.published);
        headers.insert(headers::MESSAGE_ID, printable(&id));

        let subject = self.topic.subject.clone();
        let stored = self
            .jetstream
            .publish_with_headers(subject, headers, message.payload.clone())
            .await?
            .await?;
        if !stored.duplicate {
            let reason = reason.kind();
            tracing::error!(
                sequence,
                reason,
                dead_letter = stored.sequence,
                "set a message aside"
            );
        }
        Ok(())
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
    let prefix = text.get(..SERVER_PREFIX.len());
    if prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(SERVER_PREFIX)) {
        let renamed = format!("{ORIGINAL}{text}").parse();
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
