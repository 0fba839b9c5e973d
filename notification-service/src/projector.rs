//! From the stream into the copy, through any failure of MongoDB and NATS.

mod batch_size;
mod connection;
mod consumer;
mod dead_letter;
mod deliveries;
mod quarantine;
mod session;
mod settler;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use async_nats::{
    Client,
    jetstream::{self, stream},
};
use backon::BackoffBuilder;
use service_runtime::nats::Topic;
use service_runtime::{
    backoff,
    nats::{self, NatsSettings},
    progress::Progress,
};
use tokio::time;
use tokio_util::sync::CancellationToken;

use self::{
    batch_size::BatchSize,
    dead_letter::{DeadLetters, Retry},
    deliveries::Deliveries,
    quarantine::Suspects,
    settler::Settler,
};
use crate::{config::ProjectorConfig, holes::Holes, projection::Projection};

const CONNECTION_NAME: &str = "notification-service";
/// How long the write of a full batch is to take at most.
const MAX_WRITE_TIME: Duration = Duration::from_secs(2);
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);

pub(crate) use connection::Connection;

pub(crate) struct Projector {
    nats: NatsSettings,
    connection: Connection,
    topic: Topic,
    consumer: String,
    projection: Projection,
    holes: Holes,
    ack_wait: Duration,
    tombstone_ttl: Duration,
    batch_size: Arc<BatchSize>,
    retry: Retry,
    progress: Progress,
}

impl Projector {
    pub(crate) fn new(
        config: &ProjectorConfig,
        projection: Projection,
        holes: Holes,
        tombstone_ttl: Duration,
    ) -> Self {
        Self {
            nats: config.nats.connection.clone(),
            connection: Connection::default(),
            topic: config.nats.topic(),
            consumer: config.consumer.clone(),
            projection,
            holes,
            ack_wait: config.ack_wait,
            tombstone_ttl,
            // A batch and those ahead of it are to be written well before they come again.
            batch_size: Arc::new(BatchSize::new(MAX_WRITE_TIME.min(config.ack_wait / 4))),
            retry: Retry::default(),
            progress: Progress::new("projector"),
        }
    }

    /// The connection that it has at any time, for others in the process.
    pub(crate) fn connection(&self) -> Connection {
        self.connection.clone()
    }

    /// A success is that a session hears of its consumer, or has written events.
    pub(crate) fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Projects until `shutdown`, after which the batches in hand have `grace` to be finished.
    ///
    /// A session ends with the first failure and gives back what it holds, so that another service
    /// may apply it meanwhile. The next one checks everything from the start.
    ///
    /// # Errors
    /// If the NATS URL is not valid.
    pub(crate) async fn run(
        self,
        shutdown: CancellationToken,
        grace: Duration,
    ) -> anyhow::Result<()> {
        let Some(mut client) = self.connect(&shutdown).await? else {
            return Ok(());
        };
        let mut delays = backoff::unbounded().build();
        let mut suspects = Suspects::default();
        loop {
            let mut progress = false;
            let session = self.session(&client, &mut suspects, &shutdown, grace, &mut progress);
            let ended = session.await;
            self.progress.failed();
            let Err(error) = ended else { break };
            if progress {
                delays = backoff::unbounded().build();
            }
            let delay = delays.next().unwrap_or_default();
            let error = format!("{error:#}");
            tracing::warn!(
                error,
                retry_in_ms = delay.as_millis(),
                "projection is held up"
            );

            let pause = shutdown.run_until_cancelled(time::sleep(delay));
            if pause.await.is_none() {
                break;
            }
            if is_dead(&client).await {
                match self.connect(&shutdown).await? {
                    Some(connected) => client = connected,
                    None => return Ok(()),
                }
            }
        }
        flush(&client).await;
        // What is settled now may leave the stream before anybody looks again.
        let jetstream = jetstream::new(client);
        let last_look = self.holes.look(&jetstream);
        if !matches!(time::timeout(FLUSH_DEADLINE, last_look).await, Ok(Ok(()))) {
            tracing::warn!(
                "the last position was not kept; later, events may be taken for missing"
            );
        }
        Ok(())
    }

    /// `None` if told to stop first.
    async fn connect(&self, shutdown: &CancellationToken) -> anyhow::Result<Option<Client>> {
        let connect = nats::connect(&self.nats, CONNECTION_NAME);
        let connect = self.progress.while_retrying(connect);
        let connected = shutdown.run_until_cancelled(connect).await.transpose()?;
        self.connection.set(connected.clone());
        Ok(connected)
    }

    async fn session(
        &self,
        client: &Client,
        suspects: &mut Suspects,
        shutdown: &CancellationToken,
        grace: Duration,
        progress: &mut bool,
    ) -> anyhow::Result<()> {
        let Some(opened) = shutdown
            .run_until_cancelled(self.open(client, suspects))
            .await
        else {
            return Ok(());
        };
        let (deliveries, settler) = opened?;
        self.progress.succeeded();
        session::run(deliveries, &settler, progress, shutdown, grace).await
    }

    async fn open(
        &self,
        client: &Client,
        suspects: &mut Suspects,
    ) -> anyhow::Result<(Deliveries, Settler)> {
        let prepare = self.projection.prepare(self.tombstone_ttl);
        prepare.await.context("waiting for MongoDB")?;
        let jetstream = jetstream::new(client.clone());
        let (stream, consumer) =
            consumer::bind(&jetstream, &self.topic, &self.consumer, self.ack_wait)
                .await
                .context("waiting for JetStream")?;
        let dead_letters =
            DeadLetters::open(&jetstream, &stream, &self.topic, self.retry.clone()).await;
        quarantine::sweep(suspects, &jetstream, consumer.cached_info(), &dead_letters)
            .await
            .context("looking for unreadable headers")?;
        // Before anything is delivered, so that a new consumer is known for one.
        if let Err(error) = self.holes.look(&jetstream).await {
            let error = format!("{error:#}");
            tracing::warn!(error, "could not look for missing events");
        }
        let deliveries = Deliveries::open(
            client,
            consumer,
            self.batch_size.clone(),
            self.progress.clone(),
        )
        .await?;
        self.warn_of_old_events(&stream.cached_info().config);
        tracing::info!(
            stream = self.topic.stream,
            consumer = self.consumer,
            "projecting"
        );
        let settler = Settler::new(
            self.projection.clone(),
            dead_letters,
            self.batch_size.clone(),
            self.progress.clone(),
        );
        Ok((deliveries, settler))
    }

    fn warn_of_old_events(&self, stream: &stream::Config) {
        if stream.max_age.is_zero() || stream.max_age >= self.tombstone_ttl {
            tracing::warn!(
                max_age_s = stream.max_age.as_secs(),
                tombstone_ttl_s = self.tombstone_ttl.as_secs(),
                "the stream outlives the tombstones: a replay could bring deleted users back"
            );
        }
    }
}

/// Sends what is left to be sent. What can't be sent is delivered again.
async fn flush(client: &Client) {
    let flushed = time::timeout(FLUSH_DEADLINE, client.flush()).await;
    if !matches!(flushed, Ok(Ok(()))) {
        tracing::warn!("the last acknowledgements were not sent; their events will come again");
    }
}

/// Whether the client has ended for good, as it does when it meets headers that it can't read.
/// One that is reconnecting takes its time instead.
async fn is_dead(client: &Client) -> bool {
    let flushed = time::timeout(FLUSH_DEADLINE, client.flush()).await;
    matches!(flushed, Ok(Err(_)))
}
