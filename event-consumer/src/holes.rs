//! Messages whose effects are missing: they left the stream before they were read, expired, purged or
//! deleted; or the store of the effects was put back, and is older than what is acknowledged.
//!
//! Several services share a consumer, and each sees only its part of the deliveries; a consumer
//! that is behind a purge goes along with it. So the consumer's position and the stream are compared
//! with what a [`PositionStore`] keeps of the last look, once a second and before each session.

mod position;
mod position_store;
mod trust;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow, ensure};
use async_nats::jetstream::{Context, consumer, stream};
use futures::{FutureExt, future::BoxFuture};
use service_runtime::{
    nats::{ConsumerName, Topic, stream::StreamMetadata},
    progress::Progress,
};
use tokio::{
    sync::{Mutex, OwnedMutexGuard, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::{
    position::Seen,
    trust::{Judgement, Sighting, Trust},
};
use crate::{Connection, incarnation, metrics, raw_message};

pub use self::position_store::{Claim, Hole, Position, PositionStore, Range, StoredPosition};

/// What was found so long ago says only how it was then.
const STALE: Duration = Duration::from_secs(15);

/// What the consumer's sessions need of it, wherever the position is kept.
pub(crate) trait Watch: Send + Sync {
    fn look<'a>(&'a self, jetstream: &'a Context) -> BoxFuture<'a, anyhow::Result<()>>;

    fn rewind(&self, common_up_to: u64) -> BoxFuture<'_, anyhow::Result<()>>;

    /// Whether the store may lack messages that were delivered, as of the last look.
    fn is_lacking(&self) -> bool;

    /// Ends when it may.
    fn lacks(&self) -> BoxFuture<'_, anyhow::Error>;

    /// The messages that it may lack, if there are any.
    fn lacking<'a>(
        &'a self,
        stream: &'a stream::Info,
        consumer: &'a consumer::Info,
    ) -> BoxFuture<'a, anyhow::Result<Option<Lacking>>>;

    /// They are delivered again.
    fn redelivered(&self, lacking: Lacking);
}

/// What a store may lack, though it was delivered.
pub(crate) struct Lacking {
    /// It has the effects of all messages up to here.
    pub(crate) settled: u64,
    store: Sighting,
    /// What a look saw of the consumer before it went back must not be believed after that.
    trust: OwnedMutexGuard<Trust>,
}

impl<S: PositionStore> Watch for Holes<S> {
    fn look<'a>(&'a self, jetstream: &'a Context) -> BoxFuture<'a, anyhow::Result<()>> {
        Self::look(self, jetstream).boxed()
    }

    fn rewind(&self, common_up_to: u64) -> BoxFuture<'_, anyhow::Result<()>> {
        Self::rewind(self, common_up_to).boxed()
    }

    fn is_lacking(&self) -> bool {
        *self.is_lacking.borrow()
    }

    fn lacks(&self) -> BoxFuture<'_, anyhow::Error> {
        Self::lacks(self).boxed()
    }

    fn lacking<'a>(
        &'a self,
        stream: &'a stream::Info,
        consumer: &'a consumer::Info,
    ) -> BoxFuture<'a, anyhow::Result<Option<Lacking>>> {
        Self::lacking(self, stream, consumer).boxed()
    }

    fn redelivered(&self, mut lacking: Lacking) {
        lacking.trust.trust(lacking.store);
        self.is_lacking.send_replace(false);
    }
}

/// Finds out which messages a consumer has missed.
#[derive(Debug, Clone)]
pub struct Holes<S> {
    store: S,
    topic: Topic,
    consumer: ConsumerName,
    /// How many there are, as of the last look, and when that was.
    open: watch::Sender<Option<(usize, Instant)>>,
    trust: Arc<Mutex<Trust>>,
    /// Whether the store may lack messages that were delivered, as of the last look.
    is_lacking: watch::Sender<bool>,
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
            trust: Arc::default(),
            is_lacking: watch::Sender::new(false),
        }
    }

    /// How many there are; `None` if nobody could look for the last 15 s.
    #[must_use]
    pub fn open(&self) -> Option<usize> {
        known(*self.open.borrow())
    }

    /// # Errors
    /// If messages are missing, or if that is not known.
    pub fn check(&self) -> anyhow::Result<()> {
        let open = self.open().context("missing events can't be looked for")?;
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
        metrics::show_holes(move || known(*open.borrow()), &self.consumer);
        let holes = &self;
        let look = |jetstream| async move { holes.look(&jetstream).await };
        connection
            .observe("missing events", &progress, &shutdown, look)
            .await;
        Ok(())
    }

    /// Notes and logs what left the stream unread since the last look. The position moves on only if the
    /// store is known to have all that was acknowledged.
    ///
    /// # Errors
    /// If JetStream or the position's store does not answer.
    pub async fn look(&self, jetstream: &Context) -> anyhow::Result<()> {
        let mut trust = self.trust.lock().await;
        let (stored, server) = self.load().await?;
        let (mut seen, metadata) = self.seen(jetstream).await?;
        let store = sighting(stored.as_ref(), server.clone(), seen.stream, &metadata);
        let held = store.settled;
        if self.judge(&mut trust, store, seen.delivered) != Judgement::Trusted {
            seen.settled = seen.settled.min(held);
        }
        let before = stored.as_ref().map(|stored| Position {
            settled: held,
            ..stored.position.clone()
        });
        let (mut now, news) = position::advance(before, &seen);
        let closed = now.close(&metadata.refilled);
        let holes = now.holes.len();
        let now = now.written_to(server, held);
        let is_changed = stored.as_ref().map(|stored| &stored.position) != Some(&now);
        if is_changed || trust.wants_mark() {
            let expected = stored.map(|stored| stored.revision);
            let now = StoredPosition::after(expected, now);
            if !self.store.save(&now, expected).await? {
                // Another process has looked meanwhile, and logs what it found.
                self.note(holes);
                return Ok(());
            }
            trust.mark(now.revision);
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
        self.note(holes);
        Ok(())
    }

    fn note(&self, holes: usize) {
        self.open.send_replace(Some((holes, Instant::now())));
    }

    /// The consumer goes back, to messages after `common_up_to`: what is missing there was not read.
    async fn rewind(&self, common_up_to: u64) -> anyhow::Result<()> {
        let common_up_to = common_up_to.cast_signed();
        while let Some(stored) = self.store.load().await? {
            let Some(position) = stored.position.rewound(common_up_to) else {
                break;
            };
            let expected = Some(stored.revision);
            let position = StoredPosition::after(expected, position);
            if self.store.save(&position, expected).await? {
                break;
            }
        }
        Ok(())
    }

    async fn lacks(&self) -> anyhow::Error {
        let mut is_lacking = self.is_lacking.subscribe();
        // The sender is here.
        let _ = is_lacking.wait_for(|is_lacking| *is_lacking).await;
        anyhow!("the store may be an older one that has taken the place of the one before")
    }

    async fn lacking(
        &self,
        stream: &stream::Info,
        consumer: &consumer::Info,
    ) -> anyhow::Result<Option<Lacking>> {
        let mut trust = self.trust.clone().lock_owned().await;
        let (stored, server) = self.load().await?;
        let metadata = StreamMetadata::of(stream);
        let store = sighting(stored.as_ref(), server, created(stream)?, &metadata);
        let delivered = consumer.delivered.stream_sequence.cast_signed();
        let judgement = self.judge(&mut trust, store.clone(), delivered);
        Ok((judgement == Judgement::Lacking).then(|| Lacking {
            settled: store.settled.cast_unsigned(),
            store,
            trust,
        }))
    }

    /// The server second: if it is still the one that was known, so is the store that was read.
    async fn load(&self) -> anyhow::Result<(Option<StoredPosition>, Option<String>)> {
        Ok((self.store.load().await?, self.store.server().await?))
    }

    fn judge(&self, trust: &mut Trust, store: Sighting, delivered: i64) -> Judgement {
        let judgement = trust.judge(store, delivered);
        (self.is_lacking).send_replace(judgement == Judgement::Lacking);
        judgement
    }

    /// The consumer first: what it settles after that can only be taken for missing if it leaves
    /// the stream at once.
    async fn seen(&self, jetstream: &Context) -> anyhow::Result<(Seen, StreamMetadata)> {
        let stream = jetstream.get_stream_no_info(&self.topic.stream).await?;
        let consumer = stream.consumer_info(self.consumer.as_str()).await?;
        let ack_floor = consumer.ack_floor.stream_sequence;
        let last = stream.get_info().await?.state.last_sequence;
        let settled = self.settled(jetstream, ack_floor, last).await?;
        // What is gone before the last look at the stream is seen by it.
        let mut info = stream.get_info().await?;
        let metadata = StreamMetadata::of(&info);
        // As long as the consumer has not gone back, it has not read what stands there now.
        let incarnation = incarnation::followed(&consumer);
        let common = metadata.incarnations.common_up_to(incarnation);
        let settled = settled.min(common.unwrap_or(settled));
        if info.state.deleted_count.unwrap_or_default() > 0 {
            let detailed = stream.info_builder().with_deleted(true).fetch();
            info = detailed.await?.info;
        }
        let stream = created(&info)?;
        let deleted = info.state.deleted.unwrap_or_default();
        let seen = Seen {
            stream,
            settled: settled.cast_signed(),
            delivered: consumer.delivered.stream_sequence.cast_signed(),
            incarnation,
            first: info.state.first_sequence.cast_signed(),
            last: info.state.last_sequence.cast_signed(),
            deleted: deleted.into_iter().map(u64::cast_signed).collect(),
        };
        Ok((seen, metadata))
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

fn known(open: Option<(usize, Instant)>) -> Option<usize> {
    let (holes, looked) = open?;
    (looked.elapsed() < STALE).then_some(holes)
}

fn sighting(
    stored: Option<&StoredPosition>,
    server: Option<String>,
    stream: i64,
    metadata: &StreamMetadata,
) -> Sighting {
    let position = stored.map(|stored| stored.position.clone().read_from(server.as_deref()));
    Sighting {
        server,
        revision: stored.map_or(0, |stored| stored.revision),
        settled: position.map_or(0, |position| position.settled_on(stream, metadata)),
    }
}

/// In nanoseconds since 1970.
fn created(stream: &stream::Info) -> anyhow::Result<i64> {
    Ok(i64::try_from(stream.created.unix_timestamp_nanos())?)
}
