//! A durable consumer that remembers which events it was given.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use event_consumer::{
    ConsumerSettings, EventConsumer, Handler, HandlerError, Holes, Message, Verdict,
    holes::{PositionStore, StoredPosition},
};
use service_runtime::{
    nats::{NatsSettings, Topic},
    progress::Progress,
};
use testkit::{eventually, unique};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{Target, World};

#[derive(Debug, Clone)]
pub(super) struct Reader {
    settings: ConsumerSettings,
    jetstream: async_nats::jetstream::Context,
    read: Arc<Mutex<BTreeSet<String>>>,
    position: Arc<Mutex<Option<StoredPosition>>>,
}

pub(super) struct Running {
    shutdown: CancellationToken,
    tasks: [JoinHandle<anyhow::Result<()>>; 2],
}

impl Running {
    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        for task in self.tasks {
            let ended = task.await.expect("no panic");
            ended.expect("an orderly stop");
        }
    }
}

impl Reader {
    pub(super) fn new(world: &World, target: &Target) -> Self {
        Self {
            settings: ConsumerSettings {
                nats: NatsSettings::open(world.nats_url.parse().expect("a URL")),
                connection_name: "reader",
                topic: Topic {
                    stream: target.stream.clone(),
                    subject: target.subject.clone(),
                },
                consumer: unique("reader").parse().expect("a name"),
                ack_wait: Duration::from_secs(10),
            },
            jetstream: world.jetstream.clone(),
            read: Arc::default(),
            position: Arc::default(),
        }
    }

    pub(super) fn run(&self) -> Running {
        let shutdown = CancellationToken::new();
        let holes = self.holes();
        let consumer =
            EventConsumer::new(self.settings.clone(), self.clone(), Progress::new("reader"))
                .with_holes(holes.clone());
        let observing = holes.observe(
            consumer.connection(),
            Progress::new("holes"),
            shutdown.clone(),
        );
        let tasks = [
            tokio::spawn(observing),
            tokio::spawn(consumer.run(shutdown.clone(), Duration::from_secs(5))),
        ];
        Running { shutdown, tasks }
    }

    fn holes(&self) -> Holes<Self> {
        let (topic, consumer) = (self.settings.topic.clone(), self.settings.consumer.clone());
        Holes::new(self.clone(), topic, consumer)
    }

    /// Runs until so many events are read, and stops.
    pub(super) async fn read(&self, events: usize) {
        let running = self.run();
        eventually("the events to be read", async || {
            let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            (read.len() == events).then_some(())
        })
        .await;
        running.stop().await;
    }

    pub(super) fn has_read(&self, events: &BTreeSet<String>) -> bool {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.is_superset(events)
    }

    /// As `/readyz` would say after one more look.
    pub(super) async fn is_ready(&self) -> bool {
        let holes = self.holes();
        holes.look(&self.jetstream).await.is_ok() && holes.check().is_ok()
    }
}

impl Handler for Reader {
    async fn prepare(&self) -> anyhow::Result<()> {
        Ok(())
    }

    async fn handle(&self, batch: &[Message]) -> Result<Vec<Verdict>, HandlerError> {
        let ids = batch.iter().filter_map(|it| it.id().map(str::to_owned));
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.extend(ids);
        Ok(vec![Verdict::Ack; batch.len()])
    }
}

impl PositionStore for Reader {
    async fn load(&self) -> anyhow::Result<Option<StoredPosition>> {
        let position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(position.clone())
    }

    async fn server(&self) -> anyhow::Result<Option<String>> {
        Ok(None)
    }

    async fn save(&self, stored: &StoredPosition, expected: Option<i64>) -> anyhow::Result<bool> {
        let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        if position.as_ref().map(|it| it.revision) != expected {
            return Ok(false);
        }
        *position = Some(stored.clone());
        Ok(true)
    }
}
