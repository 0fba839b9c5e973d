//! The durable consumer on the stream of user events.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::{
    Context, Message,
    consumer::{AckPolicy, Consumer, DeliverPolicy, pull::Config},
    stream::{RawMessageErrorKind, Stream},
};
use service_runtime::stream;
use shared_events::Topic;

/// What is not acknowledged for so long is delivered again, to whoever asks.
pub(super) const ACK_WAIT: Duration = Duration::from_secs(30);
/// How many unacknowledged messages all services together may hold.
const MAX_ACK_PENDING: i64 = 20_000;

/// A message that was seen on the stream. If another stands in its place later, the stream lost
/// its tail and was filled again.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Witness {
    sequence: u64,
    published: async_nats::datetime::DateTime,
}

impl Witness {
    pub(super) fn of(message: &Message) -> Option<Self> {
        let info = message.info().ok()?;
        Some(Self {
            sequence: info.stream_sequence,
            published: info.published,
        })
    }
}

/// The stream and its consumer, both created if they are missing and the consumer brought up to
/// date. A consumer that has counted past what the stream holds would skip as many new events: it
/// is created anew and starts from the first event; the version guard makes repeats harmless.
pub(super) async fn bind(
    jetstream: &Context,
    topic: &Topic,
    name: &str,
    witness: Option<&Witness>,
) -> anyhow::Result<(Stream, Consumer<Config>)> {
    let stream = stream::get_or_create(jetstream, topic)
        .await
        .context("the stream")?;
    let mut consumer = stream
        .create_consumer(config(topic, name))
        .await
        .context("the consumer")?;
    if is_ahead(&stream, &consumer, witness).await? {
        tracing::warn!(consumer = name, "the stream lost its tail; starting over");
        stream.delete_consumer(name).await?;
        consumer = stream.create_consumer(config(topic, name)).await?;
    }
    Ok((stream, consumer))
}

fn config(topic: &Topic, name: &str) -> Config {
    Config {
        durable_name: Some(name.to_owned()),
        filter_subject: topic.subject.clone(),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        // Any other bound would leave a silent hole; what can't be applied is set aside instead.
        max_deliver: -1,
        max_ack_pending: MAX_ACK_PENDING,
        ..Config::default()
    }
}

async fn is_ahead(
    stream: &Stream,
    consumer: &Consumer<Config>,
    witness: Option<&Witness>,
) -> anyhow::Result<bool> {
    // Asked after the consumer, so that what was delivered meanwhile is not taken for lost.
    let last_sequence = stream.get_info().await?.state.last_sequence;
    if consumer.cached_info().delivered.stream_sequence > last_sequence {
        return Ok(true);
    }
    let Some(witness) = witness else {
        return Ok(false);
    };
    match stream.get_raw_message(witness.sequence).await {
        Ok(message) => Ok(message.time != witness.published),
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}
