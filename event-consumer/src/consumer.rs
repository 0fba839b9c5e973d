//! Sessions of a durable consumer, through any failure of NATS or of what the handler needs.

use std::{fmt, future, sync::Arc, time::Duration};

use anyhow::Context as _;
use async_nats::{Client, jetstream};
use service_runtime::{
    nats::{self, ConsumerName, NatsSettings, Topic},
    progress::Progress,
    sessions::Sessions,
};
use tokio::time;
use tokio_util::sync::CancellationToken;

use crate::{
    Connection, Handler, Holes,
    batch_processor::BatchProcessor,
    batch_size::BatchSize,
    dead_letters::{DeadLetterWriter, Retry},
    durable::{self, Bound},
    holes::{PositionStore, Watch},
    incarnation,
    metrics::WorkMetrics,
    pull_subscription::PullSubscription,
    quarantine::{self, Suspects},
    session,
    spans::MessageSpans,
};

/// How long handling a full batch is to take at most.
const MAX_BATCH_TIME: Duration = Duration::from_secs(2);
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);
/// A stream without a leader answers nothing: ask again soon.
const SETUP_DEADLINE: Duration = Duration::from_secs(3);

/// What is consumed, and under which name.
#[derive(Debug, Clone)]
pub struct ConsumerSettings {
    pub nats: NatsSettings,
    /// What the server's monitor shows for the connection.
    pub connection_name: &'static str,
    pub topic: Topic,
    /// Processes that share the durable consumer of this name share the work.
    pub consumer: ConsumerName,
    /// When a message is delivered again that was neither acknowledged nor given back. A batch is
    /// to be handled within a quarter of it, and within two seconds.
    pub ack_wait: Duration,
}

/// Follows a stream with a [`Handler`].
pub struct EventConsumer<H> {
    settings: ConsumerSettings,
    handler: Arc<H>,
    connection: Connection,
    holes: Option<Arc<dyn Watch>>,
    batch_size: Arc<BatchSize>,
    retry: Retry,
    progress: Progress,
    metrics: WorkMetrics,
}

impl<H> fmt::Debug for EventConsumer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventConsumer")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl<H: Handler> EventConsumer<H> {
    /// Reports to `progress`: a success is that a session hears of its consumer, or that the
    /// handler has given its verdicts.
    pub fn new(settings: ConsumerSettings, handler: H, progress: Progress) -> Self {
        // A batch and those ahead of it are to be handled well before they come again.
        let batch_time = MAX_BATCH_TIME.min(settings.ack_wait / 4);
        Self {
            metrics: WorkMetrics::new(&settings.consumer),
            settings,
            handler: Arc::new(handler),
            connection: Connection::default(),
            holes: None,
            batch_size: Arc::new(BatchSize::new(batch_time)),
            retry: Retry::default(),
            progress,
        }
    }

    /// Looks for holes before each session, so that a new consumer is known for one, and at the
    /// end. [`Holes::observe`] looks in between. If the store of the position may be older than what is
    /// acknowledged, a new session begins that reads again what the store may lack.
    #[must_use]
    pub fn with_holes<S: PositionStore>(mut self, holes: Holes<S>) -> Self {
        self.holes = Some(Arc::new(holes));
        self
    }

    /// The connection that it has at any time, for others in the process.
    #[must_use]
    pub fn connection(&self) -> Connection {
        self.connection.clone()
    }

    /// Consumes until `shutdown`, after which the batches in hand have `grace` to be finished.
    ///
    /// A session ends with the first failure and gives back what it holds, so that another process
    /// may handle it meanwhile. The next one checks everything from the start.
    ///
    /// # Errors
    /// If the NATS settings are not valid.
    pub async fn run(self, shutdown: CancellationToken, grace: Duration) -> anyhow::Result<()> {
        let Some(mut client) = self.connect(&shutdown).await? else {
            return Ok(());
        };
        let mut suspects = Suspects::default();
        let mut sessions = Sessions::new("consuming", &self.progress, &shutdown);
        while sessions.begin().await {
            if is_dead(&client).await {
                match self.connect(&shutdown).await? {
                    Some(connected) => client = connected,
                    None => return Ok(()),
                }
            }
            let mut worked = false;
            let session = self.session(&client, &mut suspects, &shutdown, grace, &mut worked);
            let ended = session.await;
            self.progress.failed();
            if worked {
                sessions.worked();
            }
            match ended {
                Ok(()) => break,
                Err(error) => sessions.failed(&error),
            }
        }
        flush(&client).await;
        self.look_for_the_last_time(client).await;
        Ok(())
    }

    /// `None` if told to stop first.
    async fn connect(&self, shutdown: &CancellationToken) -> anyhow::Result<Option<Client>> {
        let connect = nats::connect(&self.settings.nats, self.settings.connection_name);
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
        worked: &mut bool,
    ) -> anyhow::Result<()> {
        let Some(opened) = shutdown
            .run_until_cancelled(self.open(client, suspects))
            .await
        else {
            return Ok(());
        };
        let (subscription, processor, incarnation) = opened?;
        self.progress.succeeded();
        let jetstream = jetstream::new(client.clone());
        let changed = incarnation::changed(&jetstream, &self.settings.topic.stream, incarnation);
        let changed = async {
            tokio::select! {
                error = changed => error,
                error = self.store_lacks() => error,
            }
        };
        session::run(subscription, &processor, worked, changed, shutdown, grace).await
    }

    async fn store_lacks(&self) -> anyhow::Error {
        match &self.holes {
            Some(holes) => holes.lacks().await,
            None => future::pending().await,
        }
    }

    async fn open(
        &self,
        client: &Client,
        suspects: &mut Suspects,
    ) -> anyhow::Result<(PullSubscription, BatchProcessor<H>, u64)> {
        let ConsumerSettings {
            topic,
            consumer: name,
            ack_wait,
            ..
        } = &self.settings;
        self.handler.prepare().await?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(SETUP_DEADLINE);
        let holes = self.holes.as_deref();
        let bound = durable::bind(&jetstream, topic, name, *ack_wait, holes).await;
        let Bound {
            stream,
            consumer,
            incarnation,
        } = bound.context("waiting for JetStream")?;
        let dead_letters =
            DeadLetterWriter::open(&jetstream, &stream, topic, name, self.retry.clone()).await;
        let (info, subjects) = (consumer.cached_info(), name.reads(topic));
        let set_aside = quarantine::sweep(suspects, &jetstream, info, &subjects, &dead_letters)
            .await
            .context("looking for unreadable headers")?;
        self.metrics.dead_lettered(set_aside);
        if let Some(holes) = holes
            && let Err(error) = holes.look(&jetstream).await
        {
            let error = format!("{error:#}");
            tracing::warn!(error, "could not look for missing events");
        }
        let batch_size = self.batch_size.clone();
        let progress = self.progress.clone();
        let subscription =
            PullSubscription::open(client, consumer, batch_size.clone(), progress.clone()).await?;
        self.handler.stream_opened(&stream.cached_info().config);
        tracing::info!(stream = topic.stream, consumer = %name, "consuming");
        let handler = self.handler.clone();
        let metrics = self.metrics.clone();
        let spans = MessageSpans::new(topic, name);
        let processor =
            BatchProcessor::new(handler, dead_letters, batch_size, progress, metrics, spans);
        Ok((subscription, processor, incarnation))
    }

    /// What is acknowledged now may leave the stream before anybody looks again.
    async fn look_for_the_last_time(&self, client: Client) {
        let Some(holes) = &self.holes else {
            return;
        };
        let jetstream = jetstream::new(client);
        let last_look = time::timeout(FLUSH_DEADLINE, holes.look(&jetstream));
        if !matches!(last_look.await, Ok(Ok(()))) {
            tracing::warn!(
                "the last position was not kept; later, events may be taken for missing"
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
