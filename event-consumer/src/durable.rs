//! The durable consumer on the stream.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::{
    Context, ErrorCode,
    consumer::{AckPolicy, Consumer, DeliverPolicy, Info, pull::Config},
    context::ConsumerInfoErrorKind,
    stream::Stream,
};
use service_runtime::nats::{
    ConsumerName, Topic,
    stream::{self, StreamMetadata},
};

use crate::{
    holes::Watch,
    incarnation::{self, Rewind},
};

/// How many unacknowledged messages all services together may hold.
const MAX_ACK_PENDING: i64 = 20_000;

/// The stream, its consumer, and the incarnation of the stream that the consumer follows.
pub(crate) struct Bound {
    pub(crate) stream: Stream,
    pub(crate) consumer: Consumer<Config>,
    pub(crate) incarnation: u64,
}

/// The stream and its consumer, both created if they are missing and the consumer brought up to
/// date. One that has read what the stream has lost since would skip what stands there now: it goes
/// back to where the stream has changed; handlers are idempotent. The position of its
/// `holes` goes along. It goes back as well to what the store of that position may lack.
///
/// Several processes may do this at once, and any may end half-way. The consumer's metadata names the
/// incarnation only once it has gone back, and to go back twice does no harm.
pub(crate) async fn bind(
    jetstream: &Context,
    topic: &Topic,
    name: &ConsumerName,
    ack_wait: Duration,
    holes: Option<&dyn Watch>,
) -> anyhow::Result<Bound> {
    let stream = stream::get_or_create(jetstream, topic)
        .await
        .context("the stream")?;
    // Asked before the consumer: what that delivers later is of this incarnation or of a newer one.
    let incarnations = StreamMetadata::of(&stream.get_info().await?).incarnations;
    let mut config = Config {
        metadata: incarnation::metadata(incarnations.number()),
        ..config(topic, name, ack_wait)
    };
    if let Some(info) = existing(&stream, name).await.context("the consumer")? {
        // Asked after the consumer, so that what was delivered meanwhile is not taken for lost.
        let last = stream.get_info().await?.state.last_sequence;
        if let Some(rewind) = Rewind::needed(&incarnations, &info, last) {
            if let Some(holes) = holes {
                holes.rewind(rewind.common_up_to).await?;
            }
            rewind.run(jetstream, &stream, &info, &config).await?;
        }
        if let Some(holes) = holes {
            deliver_what_is_lacking(holes, (jetstream, &stream), name, &config).await?;
        }
        // It can't be changed, but by creating the consumer again.
        if let Some(info) = existing(&stream, name).await? {
            config.deliver_policy = info.config.deliver_policy;
        }
    }
    let consumer = stream
        .create_consumer(config)
        .await
        .context("the consumer")?;
    Ok(Bound {
        stream,
        consumer,
        incarnation: incarnations.number(),
    })
}

/// The store of the handler's effects may be older than the consumer.
async fn deliver_what_is_lacking(
    holes: &dyn Watch,
    (jetstream, stream): (&Context, &Stream),
    name: &ConsumerName,
    config: &Config,
) -> anyhow::Result<()> {
    if !holes.is_lacking() {
        return Ok(());
    }
    let Some(consumer) = existing(stream, name).await? else {
        return Ok(());
    };
    let info = stream.get_info().await?;
    let Some(lacking) = holes.lacking(&info, &consumer).await? else {
        return Ok(());
    };
    let rewind = Rewind::to_what_is_settled(lacking.settled);
    rewind.run(jetstream, stream, &consumer, config).await?;
    holes.redelivered(lacking);
    Ok(())
}

async fn existing(stream: &Stream, name: &ConsumerName) -> anyhow::Result<Option<Info>> {
    match stream.consumer_info(name.as_str()).await {
        Ok(info) => Ok(Some(info)),
        Err(error) => match error.kind() {
            ConsumerInfoErrorKind::NotFound => Ok(None),
            ConsumerInfoErrorKind::JetStream(answer)
                if answer.error_code() == ErrorCode::CONSUMER_NOT_FOUND =>
            {
                Ok(None)
            }
            _ => Err(error.into()),
        },
    }
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
