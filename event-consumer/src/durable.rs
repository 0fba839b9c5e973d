//! The durable consumer on the stream.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::{
    Context,
    consumer::{AckPolicy, Consumer, DeliverPolicy, pull::Config},
    stream::Stream,
};
use service_runtime::nats::{ConsumerName, Topic, stream};

/// How many unacknowledged messages all services together may hold.
const MAX_ACK_PENDING: i64 = 20_000;

/// The stream and its consumer, both created if they are missing and the consumer brought up to
/// date. A consumer that has counted past what the stream holds would skip as many new messages: it
/// is created anew and starts from the first message; handlers are idempotent.
pub(crate) async fn bind(
    jetstream: &Context,
    topic: &Topic,
    name: &ConsumerName,
    ack_wait: Duration,
) -> anyhow::Result<(Stream, Consumer<Config>)> {
    let stream = stream::get_or_create(jetstream, topic)
        .await
        .context("the stream")?;
    let mut consumer = stream
        .create_consumer(config(topic, name, ack_wait))
        .await
        .context("the consumer")?;
    // Asked after the consumer, so that what was delivered meanwhile is not taken for lost.
    let last_sequence = stream.get_info().await?.state.last_sequence;
    if consumer.cached_info().delivered.stream_sequence > last_sequence {
        tracing::warn!(consumer = %name, "the stream lost its tail; starting over");
        stream.delete_consumer(name.as_str()).await?;
        consumer = stream
            .create_consumer(config(topic, name, ack_wait))
            .await?;
    }
    Ok((stream, consumer))
}

fn config(topic: &Topic, name: &ConsumerName, ack_wait: Duration) -> Config {
    Config {
        durable_name: Some(name.to_string()),
        filter_subjects: name.reads(topic).into(),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait,
        // Any other bound would leave a silent hole; what can't take effect is rejected instead.
        max_deliver: -1,
        max_ack_pending: MAX_ACK_PENDING,
        ..Config::default()
    }
}
