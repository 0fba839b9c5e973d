//! Messages that left the stream before they were read: expired, purged or deleted.
//!
//! Several services share a consumer, and each sees only its part of the deliveries; a consumer
//! that is behind a purge goes along with it. So the consumer's position and the stream are compared
//! with what a [`PositionStore`] keeps of the last look, once a second and before each session.

mod position;
mod position_store;

use anyhow::ensure;
use async_nats::jetstream::Context;
use futures::{FutureExt, future::BoxFuture};
use service_runtime::{
    nats::{
        ConsumerName, Topic,
        stream::{Refills, StreamMetadata},
    },
    progress::Progress,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::position::Seen;
use crate::{Connection, incarnation, metrics, raw_message};

pub use self::position_store::{Hole, Position, PositionStore, Range, StoredPosition};

/// What the consumer's sessions need of it, wherever the position is kept.
pub(crate) trait Watch: Send + Sync {
    fn look<'a>(&'a self, jetstream: &'a Context) -> BoxFuture<'a, anyhow::Result<()>>;

    fn rewind(&self, common_up_to: u64) -> BoxFuture<'_, anyhow::Result<()>>;
}

impl<S: PositionStore> Watch for Holes<S> {
    fn look<'a>(&'a self, jetstream: &'a Context) -> BoxFuture<'a, anyhow::Result<()>> {
        Self::look(self, jetstream).boxed()
    }

    fn rewind(&self, common_up_to: u64) -> BoxFuture<'_, anyhow::Result<()>> {
        Self::rewind(self, common_up_to).boxed()
    }
}

/// Finds out which messages a consumer has missed.
#[derive(Debug, Clone)]
pub struct Holes<S> {
    store: S,
    topic: Topic,
    consumer: ConsumerName,
    /// How many there are, as of the last look.
    open: watch::Sender<Option<usize>>,
}

impl<S: PositionStore> Holes<S> {
    /// Of the durable consumer of this name. The position is that of the consumer: another one
    /// needs another.
    #[must_use]
    pub fn new(store: S, topic: Topic, consumer: ConsumerName) -> Self {
        Self {
            store,
            topic,
            consumer,
            open: watch::Sender::new(None),
        }
    }

    /// How many there were at the last look; `None` before the first.
    #[must_use]
    pub fn open(&self) -> Option<usize> {
        *self.open.borrow()
    }

    /// # Errors
    /// If messages are missing.
    pub fn check(&self) -> anyhow::Result<()> {
        let open = self.open().unwrap_or_default();
        ensure!(open == 0, "events are missing in {open} holes");
        Ok(())
    }

    /// Looks once a second.
    ///
    /// # Errors
    /// Never: it has the form of a task.
    pub async fn observe(
        self,
        connection: Connection,
        progress: Progress,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let open = self.open.clone();
        metrics::show_holes(move || *open.borrow(), &self.consumer);
        let holes = &self;
        let look = |jetstream| async move { holes.look(&jetstream).await };
        connection
            .observe("missing events", &progress, &shutdown, look)
            .await;
        Ok(())
    }

    /// Notes and logs what left the stream unread since the last look.
    ///
    /// # Errors
    /// If JetStream or the position's store does not answer.
    pub async fn look(&self, jetstream: &Context) -> anyhow::Result<()> {
        let stored = self.store.load().await?;
        let revision = stored.as_ref().map(|stored| stored.revision);
        let before = stored.map(|stored| stored.position);
        let (seen, refills) = self.seen(jetstream).await?;
        let (mut now, news) = position::advance(before.clone(), &seen);
        let closed = now.close(&refills);
        let holes = now.holes.len();
        let is_changed = before.as_ref() != Some(&now);
        if is_changed && !self.store.save(&now, revision).await? {
            // Another process has looked meanwhile, and logs what it found.
            return Ok(());
        }
        for hole in news {
            tracing::error!(
                stream = self.topic.stream,
                first_sequence = hole.first,
                last_sequence = hole.last,
                events = hole.last - hole.first + 1,
                "events left the stream before they were read"
            );
        }
        if closed > 0 {
            tracing::info!(
                stream = self.topic.stream,
                events = closed,
                "events that had left the stream were published again, and are read"
            );
        }
        self.open.send_replace(Some(holes));
        Ok(())
    }

    /// The consumer goes back, to messages after `common_up_to`: what is missing there was not read.
    async fn rewind(&self, common_up_to: u64) -> anyhow::Result<()> {
        let common_up_to = common_up_to.cast_signed();
        while let Some(stored) = self.store.load().await? {
            if stored.position.settled <= common_up_to {
                break;
            }
            let position = stored.position.rewound(common_up_to);
            if self.store.save(&position, Some(stored.revision)).await? {
                break;
            }
        }
        Ok(())
    }

    /// The consumer first: what it settles after that can only be taken for missing if it leaves
    /// the stream at once.
    async fn seen(&self, jetstream: &Context) -> anyhow::Result<(Seen, Refills)> {
        let stream = jetstream.get_stream_no_info(&self.topic.stream).await?;
        let consumer = stream.consumer_info(self.consumer.as_str()).await?;
        let ack_floor = consumer.ack_floor.stream_sequence;
        let last = stream.get_info().await?.state.last_sequence;
        let settled = self.settled(jetstream, ack_floor, last).await?;
        // What is gone before the last look at the stream is seen by it.
        let mut info = stream.get_info().await?;
        let metadata = StreamMetadata::of(&info);
        // As long as the consumer has not gone back, it has not read what stands there now.
        let common = (metadata.incarnations).common_up_to(incarnation::followed(&consumer));
        let settled = settled.min(common.unwrap_or(settled));
        if info.state.deleted_count.unwrap_or_default() > 0 {
            let detailed = stream.info_builder().with_deleted(true).fetch();
            info = detailed.await?.info;
        }
        let deleted = info.state.deleted.unwrap_or_default();
        let seen = Seen {
            stream: i64::try_from(info.created.unix_timestamp_nanos())?,
            settled: settled.cast_signed(),
            is_new: consumer.delivered.consumer_sequence == 0,
            first: info.state.first_sequence.cast_signed(),
            last: info.state.last_sequence.cast_signed(),
            deleted: deleted.into_iter().map(u64::cast_signed).collect(),
        };
        Ok((seen, metadata.refilled))
    }

    /// Up to where the stream, which ended at `last`, has nothing for the consumer that is not
    /// acknowledged. Behind the consumer's floor there may be messages for others, which it never
    /// acknowledges: replays of their dead letters.
    async fn settled(&self, jetstream: &Context, floor: u64, last: u64) -> anyhow::Result<u64> {
        if floor >= last {
            return Ok(floor);
        }
        let (stream, subjects) = (&self.topic.stream, self.consumer.reads(&self.topic));
        let next = raw_message::next_of_any(jetstream, stream, &subjects, floor + 1).await?;
        Ok(next.map_or(last, |message| last.min(message.sequence - 1)))
    }
}
