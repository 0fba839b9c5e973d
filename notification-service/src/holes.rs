//! Events that left the stream before they were read: expired, purged or deleted.
//!
//! Several services share a consumer, and each sees only its part of the deliveries; a consumer
//! that is behind a purge goes along with it. So the consumer's position and the stream are compared
//! with what is kept in MongoDB of the last look, once a second and before each session.

pub(crate) mod api;
mod position;

use std::time::Duration;

use anyhow::ensure;
use async_nats::jetstream::Context;
use service_runtime::nats::Topic;
use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

use self::position::Seen;
use crate::{projection::HoleStore, projector::Connection};

const INTERVAL: Duration = Duration::from_secs(1);

/// Finds out which events the copy misses.
#[derive(Debug, Clone)]
pub(crate) struct Holes {
    store: HoleStore,
    topic: Topic,
    consumer: String,
    /// How many there are, as of the last look.
    open: watch::Sender<usize>,
}

impl Holes {
    pub(crate) fn new(store: HoleStore, topic: Topic, consumer: String) -> Self {
        Self {
            store,
            topic,
            consumer,
            open: watch::Sender::new(0),
        }
    }

    /// # Errors
    /// If the copy misses events.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let open = *self.open.borrow();
        ensure!(open == 0, "the copy misses events in {open} holes");
        Ok(())
    }

    /// Looks once a second.
    pub(crate) async fn observe(
        self,
        connection: Connection,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut ticks = time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let observing = async {
            loop {
                ticks.tick().await;
                let Some(jetstream) = connection.jetstream() else {
                    continue;
                };
                if let Err(error) = self.look(&jetstream).await {
                    let error = format!("{error:#}");
                    tracing::debug!(error, "could not look for missing events");
                }
            }
        };
        shutdown.run_until_cancelled(observing).await;
        Ok(())
    }

    /// Notes and logs what left the stream unread since the last look.
    ///
    /// # Errors
    /// If JetStream or MongoDB does not answer.
    pub(crate) async fn look(&self, jetstream: &Context) -> anyhow::Result<()> {
        let read = self.store.load().await?;
        let before = read.as_ref().map(|read| read.progress.clone());
        let seen = self.seen(jetstream).await?;
        let (now, news) = position::advance(before.clone(), &seen);
        let holes = now.holes.len();
        let is_changed = before.as_ref() != Some(&now);
        if is_changed && !self.store.save(read.as_ref(), now).await? {
            // Another service has looked meanwhile, and logs what it found.
            return Ok(());
        }
        for hole in news {
            tracing::error!(
                stream = self.topic.stream,
                first_sequence = hole.first,
                last_sequence = hole.last,
                events = hole.last - hole.first + 1,
                "events left the stream before they were read; verify --repair or rebuild the copy"
            );
        }
        self.open.send_if_modified(|open| {
            let is_modified = *open != holes;
            *open = holes;
            is_modified
        });
        Ok(())
    }

    /// The consumer first: what it settles after that can only be taken for missing if it leaves
    /// the stream at once.
    async fn seen(&self, jetstream: &Context) -> anyhow::Result<Seen> {
        let stream = jetstream.get_stream_no_info(&self.topic.stream).await?;
        let consumer = stream.consumer_info(&self.consumer).await?;
        let mut info = stream.get_info().await?;
        if info.state.deleted_count.unwrap_or_default() > 0 {
            let detailed = stream.info_builder().with_deleted(true).fetch();
            info = detailed.await?.info;
        }
        let deleted = info.state.deleted.unwrap_or_default();
        Ok(Seen {
            stream: i64::try_from(info.created.unix_timestamp_nanos())?,
            ack_floor: consumer.ack_floor.stream_sequence.cast_signed(),
            is_new: consumer.delivered.consumer_sequence == 0,
            first: info.state.first_sequence.cast_signed(),
            last: info.state.last_sequence.cast_signed(),
            deleted: deleted.into_iter().map(u64::cast_signed).collect(),
        })
    }
}
