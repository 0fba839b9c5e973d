//! Following a stream that goes on in another incarnation: its relay has moved back, so that other
//! messages may stand where the consumer has been.
//!
//! How far the consumer counts does not tell: by now the stream may have grown past that, and a
//! server may have corrected it. So the stream's metadata tell of each incarnation, and the durable
//! consumer's own metadata hold the one that it follows.

use std::{collections::HashMap, time::Duration};

use async_nats::jetstream::{
    Context,
    consumer::{DeliverPolicy, Info, pull::Config},
    stream::Stream,
};
use service_runtime::nats::stream::{Incarnations, StreamMetadata};
use tokio::time::sleep;

use crate::{metrics, pause};

const KEY: &str = "incarnation";
const INTERVAL: Duration = Duration::from_secs(1);

/// The incarnation of the stream that the consumer follows; 0 before the first.
pub(crate) fn followed(consumer: &Info) -> u64 {
    let followed = consumer.config.metadata.get(KEY);
    followed
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

/// The consumer's metadata.
pub(crate) fn metadata(incarnation: u64) -> HashMap<String, String> {
    match incarnation {
        0 => HashMap::new(),
        number => HashMap::from([(KEY.to_owned(), number.to_string())]),
    }
}

/// That a consumer goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rewind {
    /// Messages up to this sequence need not be read again: on the stream they are the same as before.
    pub(crate) common_up_to: u64,
    /// Whether the consumer has been beyond that.
    is_ahead: bool,
    reason: &'static str,
}

impl Rewind {
    /// `None` if the consumer follows the newest incarnation. One that has counted past the end of
    /// the stream goes back in any case: there may be no relay that tells.
    pub(crate) fn needed(incarnations: &Incarnations, consumer: &Info, last: u64) -> Option<Self> {
        let delivered = consumer.delivered.stream_sequence;
        let common_up_to = match incarnations.common_up_to(followed(consumer)) {
            Some(common_up_to) => common_up_to,
            None if delivered > last => 0,
            None => return None,
        };
        Some(Self {
            common_up_to,
            is_ahead: delivered > common_up_to,
            reason: "the stream has lost messages that were read",
        })
    }

    /// For a store that may lack what was delivered after `settled`.
    pub(crate) fn to_what_is_settled(settled: u64) -> Self {
        Self {
            common_up_to: settled,
            is_ahead: true,
            reason: "the server that keeps the effects was restarted, or this process; what the store may \
                     lack is read again",
        }
    }

    /// What others have in hand is given time to be processed: were it acknowledged later, this
    /// would count for the messages that stand there now.
    pub(crate) async fn run(
        self,
        jetstream: &Context,
        stream: &Stream,
        consumer: &Info,
        config: &Config,
    ) -> anyhow::Result<()> {
        if !self.is_ahead {
            return Ok(());
        }
        let from = self.common_up_to.min(consumer.ack_floor.stream_sequence) + 1;
        tracing::warn!(
            consumer = consumer.name,
            delivered_sequence = consumer.delivered.stream_sequence,
            from_sequence = from,
            reason = self.reason,
            "the consumer goes back and reads messages again"
        );
        metrics::went_back(&consumer.name);
        if let Err(error) = pause::pause(jetstream, stream, &consumer.name).await {
            let error = format!("{error:#}");
            tracing::warn!(error, "going back while messages are in hand");
        }
        // Servers before 2.14 can't, nor can any go back beyond where a consumer was created.
        if let Err(error) = stream.reset_consumer(&consumer.name, Some(from)).await {
            tracing::info!(%error, "could not reset the consumer; creating it again");
            stream.delete_consumer(&consumer.name).await?;
            let deliver_policy = match from {
                1 => DeliverPolicy::All,
                start_sequence => DeliverPolicy::ByStartSequence { start_sequence },
            };
            let config = Config {
                deliver_policy,
                ..config.clone()
            };
            stream.create_consumer(config).await?;
        }
        pause::resume(stream, &consumer.name).await
    }
}

/// Ends when the stream is no longer in this incarnation.
pub(crate) async fn changed(jetstream: &Context, stream: &str, incarnation: u64) -> anyhow::Error {
    loop {
        sleep(INTERVAL).await;
        match number(jetstream, stream).await {
            Ok(number) if number == incarnation => {}
            Ok(_) => return anyhow::anyhow!("the stream has changed where it was read"),
            // The subscription notices that the server is away.
            Err(error) => tracing::debug!(error = format!("{error:#}"), "no look at the stream"),
        }
    }
}

async fn number(jetstream: &Context, stream: &str) -> anyhow::Result<u64> {
    let stream = jetstream.get_stream_no_info(stream).await?;
    let info = stream.get_info().await?;
    Ok(StreamMetadata::of(&info).incarnations.number())
}
