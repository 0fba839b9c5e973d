//! The messages of the stream in order, whatever their headers.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::{
    HeaderMap,
    jetstream::{
        self, Context,
        consumer::{DeliverPolicy, pull},
    },
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use event_consumer::{message, raw_message};
use futures::StreamExt;
use service_runtime::nats;
use tokio::time;

use crate::config::NatsConfig;

const CONNECTION_NAME: &str = "notification-service rebuild, reading";
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
const BATCH: usize = 1000;
/// After so long without a message it is looked up whether there should be one.
const SILENCE: Duration = Duration::from_secs(1);

/// What is needed of a message.
pub(super) struct Item {
    pub(super) sequence: u64,
    /// Empty if the headers are unreadable: the projector makes a dead letter of it.
    pub(super) payload: Bytes,
    pub(super) is_replay: bool,
    /// Of the event, if the headers say so.
    pub(super) written_at: Option<DateTime<Utc>>,
}

impl Item {
    fn new(sequence: u64, subject: &str, headers: Option<&HeaderMap>, payload: Bytes) -> Self {
        Self {
            sequence,
            payload,
            is_replay: message::is_replay(subject, headers),
            written_at: headers.and_then(message::written_at),
        }
    }
}

/// Reads over a connection of its own: unreadable headers cost it that.
pub(super) struct Reader<'a> {
    config: &'a NatsConfig,
    /// Over another connection.
    jetstream: Context,
    messages: futures::stream::ReadyChunks<pull::Ordered>,
}

impl<'a> Reader<'a> {
    /// Reads what comes after the sequence `after`.
    pub(super) async fn open(
        config: &'a NatsConfig,
        jetstream: Context,
        after: u64,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            config,
            jetstream,
            messages: messages(config, after).await?,
        })
    }

    /// What comes after the sequence `after`, where the last batch ended; empty if there is
    /// nothing for a while.
    pub(super) async fn next(&mut self, after: u64) -> anyhow::Result<Vec<Item>> {
        let batch = time::timeout(SILENCE, self.messages.next()).await;
        let Ok(Some(batch)) = batch else {
            return self.step_over(after).await;
        };
        let mut items = Vec::with_capacity(batch.len());
        for message in batch {
            let Ok(message) = message else {
                return self.step_over(after).await;
            };
            let info = message.info().map_err(anyhow::Error::from_boxed)?;
            items.push(Item::new(
                info.stream_sequence,
                &message.subject,
                message.headers.as_ref(),
                message.payload.clone(),
            ));
        }
        Ok(items)
    }

    /// Reads one by one up to the message that the client can't read, if that is why nothing
    /// comes, and goes on behind it with a new connection.
    async fn step_over(&mut self, after: u64) -> anyhow::Result<Vec<Item>> {
        let (stream, subjects) = (&self.config.stream, self.config.reads());
        let mut items = Vec::new();
        let mut last = after;
        while items.len() < BATCH {
            let message =
                raw_message::next_of_any(&self.jetstream, stream, &subjects, last + 1).await?;
            let Some(message) = message else { break };
            last = message.sequence;
            let headers = raw_message::headers::parse(&message.headers);
            let is_readable = message.headers.is_empty() || headers.is_some();
            let payload = match is_readable {
                true => message.payload,
                false => Bytes::new(),
            };
            items.push(Item::new(
                message.sequence,
                &message.subject,
                headers.as_ref(),
                payload,
            ));
            if !is_readable {
                break;
            }
        }
        if !items.is_empty() {
            self.messages = messages(self.config, last).await?;
        }
        Ok(items)
    }
}

async fn messages(
    config: &NatsConfig,
    after: u64,
) -> anyhow::Result<futures::stream::ReadyChunks<pull::Ordered>> {
    let client = nats::connect(&config.connection, CONNECTION_NAME);
    let client = time::timeout(CONNECT_DEADLINE, client)
        .await
        .context("NATS can't be reached")??;
    let stream = jetstream::new(client).get_stream(&config.stream).await?;
    let ordered = pull::OrderedConfig {
        filter_subjects: config.reads().into(),
        deliver_policy: DeliverPolicy::ByStartSequence {
            start_sequence: after + 1,
        },
        ..pull::OrderedConfig::default()
    };
    let consumer = stream.create_consumer(ordered).await?;
    Ok(consumer.messages().await?.ready_chunks(BATCH))
}
