//! Storing dead letters.

mod form;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod retry;

use std::time::Duration;

use anyhow::Context as _;
use async_nats::{
    HeaderValue,
    datetime::DateTime,
    jetstream::{
        AckKind, Context, ErrorCode, Message,
        context::{PublishError, PublishErrorKind},
        publish::PublishAck,
        stream::Stream,
    },
};
use bytes::Bytes;
use service_runtime::{
    nats::{
        ConsumerName, Topic,
        headers::{EXPECTED_STREAM, TRACEPARENT},
        stream::{self, StreamSettings},
    },
    telemetry::trace_context::Traceparent,
};
use tokio::time;

use self::form::Form;
pub(crate) use self::retry::Retry;
use super::publish_error::{is_too_large, refusal};
use crate::{Rejection, message, raw_message};

/// Dead letters wait for a person, who may be on holiday.
const MAX_AGE: Duration = Duration::from_hours(90 * 24);

/// Consuming begins after so long, whether the stream for dead letters answers or not.
const PREPARE_DEADLINE: Duration = Duration::from_secs(1);

/// JetStream does not answer who lacks the permission to ask.
const STORE_DEADLINE: Duration = Duration::from_secs(2);

/// A dead letter that is to be stored.
pub(crate) struct NewDeadLetter<'a> {
    /// As on the wire.
    pub(crate) headers: Bytes,
    pub(crate) payload: Bytes,
    pub(crate) stream: &'a str,
    pub(crate) sequence: u64,
    pub(crate) published: DateTime,
    pub(crate) rejection: &'a Rejection,
}

/// Stores the dead letters of one consumer in the stream that its topic has for them.
#[derive(Debug, Clone)]
pub(crate) struct DeadLetterWriter {
    jetstream: Context,
    source: Topic,
    consumer: ConsumerName,
    settings: StreamSettings,
    retry: Retry,
}

impl DeadLetterWriter {
    /// The stream is created or brought up to date, as safe as `source` is. Should that fail or take
    /// long, as while the stream has no leader, it is tried again when the first letter is stored:
    /// other messages need not wait for it.
    pub(crate) async fn open(
        jetstream: &Context,
        source: &Stream,
        topic: &Topic,
        consumer: &ConsumerName,
        retry: Retry,
    ) -> Self {
        let writer = Self {
            jetstream: jetstream.clone(),
            source: topic.clone(),
            consumer: consumer.clone(),
            settings: StreamSettings {
                replicas: source.cached_info().config.num_replicas,
                max_age: MAX_AGE,
                ..StreamSettings::default()
            },
            retry,
        };
        let prepared = time::timeout(PREPARE_DEADLINE, writer.prepare()).await;
        if let Err(error) = prepared.unwrap_or_else(|late| Err(late.into())) {
            let error = format!("{error:#}");
            tracing::error!(
                error,
                "the dead-letter stream is not ready; other messages go on"
            );
        }
        writer
    }

    async fn prepare(&self) -> anyhow::Result<()> {
        let Self {
            jetstream, source, ..
        } = self;
        stream::create_or_update_dead_letters(jetstream, source, &self.settings).await
    }

    /// Stores `message` with its reason, then ends its delivery. In this order a crash repeats and
    /// loses nothing; the repeat carries the same message id. What can't be stored now stays
    /// unacknowledged and is delivered again later: false. The other messages go on.
    ///
    /// # Errors
    /// If the delivery can't be answered.
    pub(crate) async fn set_aside(
        &self,
        message: &Message,
        rejection: &Rejection,
    ) -> anyhow::Result<bool> {
        let info = message.info().map_err(anyhow::Error::from_boxed)?;
        let headers = message.headers.as_ref().map(raw_message::headers::encode);
        let letter = NewDeadLetter {
            headers: headers.unwrap_or_default().into(),
            payload: message.payload.clone(),
            stream: info.stream,
            sequence: info.stream_sequence,
            published: info.published,
            rejection,
        };
        let stored = self.store(&letter).await;
        let answer = match stored {
            Ok(()) => AckKind::Term,
            Err(retry_in) => AckKind::Nak(Some(retry_in)),
        };
        let answered = message.ack_with(answer).await;
        answered.map_err(anyhow::Error::from_boxed)?;
        Ok(stored.is_ok())
    }

    /// Harmless to repeat.
    ///
    /// # Errors
    /// If it is not known to be stored: when to try again.
    pub(crate) async fn store(&self, letter: &NewDeadLetter<'_>) -> Result<(), Duration> {
        if let Some(delay) = self.retry.delay() {
            return Err(delay);
        }
        let sequence = letter.sequence;
        let stored = time::timeout(STORE_DEADLINE, self.store_in_some_form(letter)).await;
        match stored.context("no answer in time").flatten() {
            Ok((stored, form)) => {
                self.retry.succeeded();
                if !stored.duplicate {
                    let reason = &*letter.rejection.category;
                    let dead_letter = stored.sequence;
                    let headers = raw_message::headers::parse(&letter.headers).unwrap_or_default();
                    let header = |name: &str| headers.get(name).map(HeaderValue::as_str);
                    let traceparent = header(TRACEPARENT).and_then(Traceparent::parse);
                    tracing::error!(
                        sequence,
                        event_id = message::id(&headers),
                        trace_id = traceparent.map(Traceparent::trace_id),
                        reason,
                        dead_letter,
                        ?form,
                        "set a message aside"
                    );
                }
                Ok(())
            }
            Err(error) => {
                let (delay, is_first) = self.retry.failed();
                if is_first {
                    tracing::error!(
                        sequence,
                        error = format!("{error:#}"),
                        retry_in_ms = delay.as_millis(),
                        "dead letters can't be stored; their messages stay pending, others go on"
                    );
                }
                Err(delay)
            }
        }
    }

    async fn store_in_some_form(
        &self,
        letter: &NewDeadLetter<'_>,
    ) -> anyhow::Result<(PublishAck, Form)> {
        let mut refusal = None;
        for form in Form::ALL {
            match self.publish(letter, form).await {
                Ok(stored) => return Ok((stored, form)),
                Err(error) if is_too_large(&error) => refusal = Some(error),
                Err(error) if is_missing(&error) => {
                    self.prepare().await.context("the dead-letter stream")?;
                    return Ok((self.publish(letter, form).await?, form));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let refusal = refusal.map_or_else(|| anyhow::anyhow!("no form was tried"), Into::into);
        Err(refusal.context("even a reference to the message is too large"))
    }

    async fn publish(
        &self,
        letter: &NewDeadLetter<'_>,
        form: Form,
    ) -> Result<PublishAck, PublishError> {
        let (mut headers, body) = form.encode(letter, &self.consumer);
        headers.insert(EXPECTED_STREAM, self.source.dead_letters().stream);
        let subject = self.consumer.dead_letters(&self.source);
        let publish = self.jetstream.publish_with_headers(subject, headers, body);
        publish.await?.await
    }
}

/// Whether the stream is gone, or its subject leads into another one.
fn is_missing(error: &PublishError) -> bool {
    error.kind() == PublishErrorKind::StreamNotFound
        || refusal(error) == Some(ErrorCode::STREAM_NOT_MATCH)
}
