//! A consumer of its own for each test: its own stream and durable name.

use std::time::Duration;

use async_nats::jetstream::{self, consumer::Info, stream::Stream};
use event_consumer::{ConsumerSettings, EventConsumer, Handler, HandlerError, Message, Verdict};
use futures::future::join_all;
use service_runtime::{
    nats::{
        ConsumerName, NatsSettings, Topic,
        stream::{StreamSettings, create_or_update},
    },
    progress::Progress,
};
use testkit::{eventually, nats, unique};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

const GRACE: Duration = Duration::from_secs(10);
/// Longer than any test: what comes again within it was given back.
const ACK_WAIT: Duration = Duration::from_mins(10);

pub(crate) struct World {
    pub(crate) nats_url: String,
    pub(crate) jetstream: jetstream::Context,
    pub(crate) topic: Topic,
    pub(crate) name: ConsumerName,
}

impl World {
    /// With an empty stream.
    pub(crate) async fn new() -> Self {
        testkit::print_logs();
        let nats_url = nats::shared_url();
        let client = async_nats::connect(&nats_url).await;
        let mut jetstream = jetstream::new(client.expect("the NATS server"));
        // For all that is published at once.
        jetstream.set_timeout(Duration::from_secs(60));
        let world = Self {
            nats_url,
            jetstream,
            topic: Topic {
                stream: unique("STREAM"),
                subject: unique("subject"),
            },
            name: unique("consumer").parse().expect("a name"),
        };
        world.create_stream().await;
        world
    }

    pub(crate) async fn create_stream(&self) {
        let settings = StreamSettings::default();
        let created = create_or_update(&self.jetstream, &self.topic, &settings).await;
        created.expect("the stream");
    }

    pub(crate) fn settings(&self) -> ConsumerSettings {
        ConsumerSettings {
            nats: NatsSettings::open(self.nats_url.parse().expect("a URL")),
            connection_name: "test",
            topic: self.topic.clone(),
            consumer: self.name.clone(),
            ack_wait: ACK_WAIT,
        }
    }

    pub(crate) fn consumer<H: Handler>(&self, handler: H) -> EventConsumer<H> {
        EventConsumer::new(self.settings(), handler, Progress::new("consumer"))
    }

    pub(crate) fn run<H: Handler>(&self, handler: H) -> Running {
        Running::start(self.consumer(handler), GRACE)
    }

    /// Publishes in order, and waits until all are on the stream.
    pub(crate) async fn publish<T: ToString>(&self, texts: impl IntoIterator<Item = T>) {
        let mut stored = Vec::new();
        for text in texts {
            let (subject, body) = (self.topic.subject.clone(), text.to_string());
            let publish = self.jetstream.publish(subject, body.into());
            stored.push(publish.await.expect("sent").into_future());
        }
        for stored in join_all(stored).await {
            stored.expect("stored");
        }
    }

    pub(crate) async fn publish_bytes(&self, headers: &[u8], payload: &[u8]) {
        nats::publish_bytes(&self.nats_url, &self.topic.subject, headers, payload).await;
    }

    pub(crate) async fn stream(&self) -> Stream {
        let stream = self.jetstream.get_stream(&self.topic.stream);
        stream.await.expect("the stream")
    }

    pub(crate) async fn info(&self) -> Option<Info> {
        let stream = self.jetstream.get_stream(&self.topic.stream).await.ok()?;
        stream.consumer_info(self.name.as_str()).await.ok()
    }

    /// Waits until so many messages are acknowledged or rejected, and none is pending.
    pub(crate) async fn settled(&self, messages: u64) {
        eventually("every message to be settled", async || {
            let info = self.info().await?;
            let settled = info.ack_floor.stream_sequence == messages;
            (settled && info.num_ack_pending == 0 && info.num_pending == 0).then_some(())
        })
        .await;
    }
}

/// A consumer that runs.
pub(crate) struct Running {
    pub(crate) shutdown: CancellationToken,
    ended: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    pub(crate) fn start<H: Handler>(consumer: EventConsumer<H>, grace: Duration) -> Self {
        let shutdown = CancellationToken::new();
        Self {
            ended: tokio::spawn(consumer.run(shutdown.clone(), grace)),
            shutdown,
        }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.ended().await;
    }

    pub(crate) async fn ended(self) {
        let ended = self.ended.await.expect("no panic");
        ended.expect("an orderly stop");
    }
}

/// A handler that is given the texts of a batch.
pub(crate) struct Scripted<F>(pub(crate) F);

impl<F, R> Handler for Scripted<F>
where
    F: Fn(Vec<String>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Vec<Verdict>, HandlerError>> + Send,
{
    async fn prepare(&self) -> anyhow::Result<()> {
        Ok(())
    }

    async fn handle(&self, batch: &[Message]) -> Result<Vec<Verdict>, HandlerError> {
        let text = |it: &Message| String::from_utf8_lossy(it.payload()).into_owned();
        (self.0)(batch.iter().map(text).collect()).await
    }
}

/// What handlers were given, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(watch::Sender<Vec<String>>);

impl Log {
    pub(crate) fn extend(&self, texts: impl IntoIterator<Item = String>) {
        self.0.send_modify(|log| log.extend(texts));
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    pub(crate) fn sorted(&self) -> Vec<String> {
        let mut all = self.all();
        all.sort_unstable();
        all
    }

    /// Acknowledges all that it is given.
    pub(crate) fn handler(&self) -> impl Handler + use<> {
        let log = self.clone();
        Scripted(move |batch: Vec<String>| {
            let verdicts = acks(batch.len());
            log.extend(batch);
            async { Ok(verdicts) }
        })
    }
}

/// Where a handler waits until the test lets it go on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(watch::Sender<bool>);

impl Gate {
    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn is_open(&self) -> bool {
        *self.0.borrow()
    }

    pub(crate) async fn pass(&self) {
        let mut gate = self.0.subscribe();
        gate.wait_for(|is_open| *is_open).await.expect("the gate");
    }
}

pub(crate) fn acks(messages: usize) -> Vec<Verdict> {
    vec![Verdict::Ack; messages]
}
