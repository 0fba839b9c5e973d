//! Reading the headers of a stream's messages, by a consumer that exists only meanwhile.

use std::{sync::atomic::Ordering, time::Duration};

use anyhow::{Context as _, bail, ensure};
use async_nats::{
    HeaderMap, StatusCode, Subject, Subscriber,
    jetstream::{
        self, Context,
        consumer::{
            AckPolicy, Consumer, DeliverPolicy,
            pull::{BatchConfig, Config},
        },
    },
};
use chrono::{DateTime, Utc};
use futures::StreamExt;
use tokio::time::{self, Instant};

/// Setting it up.
const SETUP_DEADLINE: Duration = Duration::from_secs(3);
/// How long the server keeps a consumer that nobody asks.
const INACTIVE: Duration = Duration::from_secs(30);
/// How long a request waits for messages.
const REQUEST_EXPIRES: Duration = Duration::from_secs(5);
/// By then the server has said at least that a request has expired.
const MAX_SILENCE: Duration = Duration::from_secs(7);
const CONNECTION_CHECK: Duration = Duration::from_secs(1);

/// A message without its payload.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) sequence: u64,
    pub(crate) published_at: DateTime<Utc>,
    /// How many are behind it.
    pub(crate) pending: u64,
    pub(crate) headers: HeaderMap,
}

/// Reads over one connection: after a reconnect the consumer may be gone, and another reader is needed.
pub(crate) struct HeaderReader {
    jetstream: Context,
    consumer: Consumer<Config>,
    inbox: Subject,
    arrivals: Subscriber,
    /// How many messages the server may still send.
    asked: u64,
    heard: Instant,
    /// Which of the client's connections they come over.
    connection: u64,
}

impl HeaderReader {
    pub(crate) async fn open(
        jetstream: &Context,
        stream: &str,
        start: DeliverPolicy,
    ) -> anyhow::Result<Self> {
        let opening = Self::set_up(jetstream, stream, start);
        let opened = time::timeout(SETUP_DEADLINE, opening).await;
        opened.context("JetStream does not answer")?
    }

    async fn set_up(
        jetstream: &Context,
        stream: &str,
        start: DeliverPolicy,
    ) -> anyhow::Result<Self> {
        let connection = connection(jetstream);
        let config = Config {
            description: Some("feed of the outbox".to_owned()),
            deliver_policy: start,
            ack_policy: AckPolicy::None,
            headers_only: true,
            inactive_threshold: INACTIVE,
            num_replicas: 1,
            memory_storage: true,
            ..Config::default()
        };
        let consumer = jetstream.create_consumer_on_stream(config, stream).await?;
        let client = jetstream.client();
        let inbox = Subject::from(client.new_inbox());
        Ok(Self {
            jetstream: jetstream.clone(),
            consumer,
            arrivals: client.subscribe(inbox.clone()).await?,
            inbox,
            asked: 0,
            heard: Instant::now(),
            connection,
        })
    }

    /// Asks for so many messages, unless some are still to come.
    pub(crate) async fn ask(&mut self, messages: u64) -> anyhow::Result<()> {
        if self.asked > 0 {
            return Ok(());
        }
        let request = BatchConfig {
            batch: usize::try_from(messages)?,
            expires: Some(REQUEST_EXPIRES),
            ..BatchConfig::default()
        };
        let asking = self.consumer.request_batch(request, self.inbox.clone());
        let asked = time::timeout(SETUP_DEADLINE, asking).await;
        asked.context("NATS takes no requests")??;
        self.asked = messages;
        self.heard = Instant::now();
        Ok(())
    }

    /// The next of those that were asked for. May be dropped while it waits.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Received> {
        loop {
            ensure!(
                connection(&self.jetstream) == self.connection,
                "reconnected"
            );
            let is_silent = self.asked > 0 && self.heard.elapsed() > MAX_SILENCE;
            ensure!(!is_silent, "the consumer is silent");
            let Ok(arrival) = time::timeout(CONNECTION_CHECK, self.arrivals.next()).await else {
                continue;
            };
            self.heard = Instant::now();
            let arrival = arrival.context("the client has ended")?;
            if arrival.reply.is_some() {
                self.asked = self.asked.saturating_sub(1);
                return self.received(arrival);
            }
            let description = arrival.description.as_deref().unwrap_or_default();
            match arrival.status {
                Some(StatusCode::TIMEOUT) => self.asked = 0,
                Some(StatusCode::REQUEST_TERMINATED) if description == "Batch Completed" => {
                    self.asked = 0;
                }
                status => bail!("the consumer ended a request: {status:?} {description}"),
            }
        }
    }

    /// How many messages it had before it when it was opened.
    pub(crate) fn pending_at_open(&self) -> u64 {
        self.consumer.cached_info().num_pending
    }

    /// Removes the consumer, which the server would do later by itself.
    pub(crate) async fn close(self) {
        let info = self.consumer.cached_info();
        let removing = (self.jetstream).delete_consumer_from_stream(&info.name, &info.stream_name);
        if !matches!(time::timeout(SETUP_DEADLINE, removing).await, Ok(Ok(_))) {
            tracing::debug!(consumer = info.name, "a consumer is left to expire");
        }
    }

    fn received(&self, message: async_nats::Message) -> anyhow::Result<Received> {
        let message = jetstream::Message {
            message,
            context: self.jetstream.clone(),
        };
        let info = message.info().map_err(anyhow::Error::from_boxed)?;
        let nanoseconds = i64::try_from(info.published.unix_timestamp_nanos())?;
        Ok(Received {
            sequence: info.stream_sequence,
            published_at: DateTime::from_timestamp_nanos(nanoseconds),
            pending: info.pending,
            headers: message.message.headers.unwrap_or_default(),
        })
    }
}

fn connection(jetstream: &Context) -> u64 {
    let statistics = jetstream.client().statistics();
    statistics.connects.load(Ordering::Relaxed)
}
