//! `notification-service rebuild`: the copy made anew from the stream, beside the one that is read.
//!
//! The new collection is filled while the projector goes on with the old one, and then takes its
//! place in one step. Just before, the projector is paused for a moment: so the new one has all
//! that the old one has, and no reader sees a user go back. Should that fail, nothing is lost all
//! the same: whatever the old one was given meanwhile was on the stream by then, and is applied
//! once more to the new one after the change.
//!
//! Before the swap a crash leaves the old copy as it was, and a collection that the next run
//! removes. A run that loses its lease can't swap: the next one has removed its collection.

mod reader;
mod replay;
mod source;

use std::{
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use async_nats::jetstream;
use event_consumer::{holes::PositionStore, pause};
use service_runtime::{nats, terminal::progress_bar};
use tokio::{
    signal::unix::{SignalKind, signal},
    time,
};
use tokio_util::sync::CancellationToken;

use self::{replay::Replay, source::Source};
use crate::{
    config::{MongoConfig, RebuildConfig},
    mongo::Pool,
    projection::{Lease, MongoPositionStore, Projection, Settings},
};

const CONNECTION_NAME: &str = "notification-service rebuild";
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// It writes in turns, and keeps its lease meanwhile.
const MONGODB_CONNECTIONS: u32 = 4;
/// Longer than a write may take.
const STOP_DEADLINE: Duration = Duration::from_secs(15);
/// For the collections to change places, while the projector is paused.
const SWAP_TIME: Duration = Duration::from_secs(2);
/// Users that an error names.
const MAX_NAMED: usize = 10;

/// Makes the copy anew, and says on standard output what it did.
///
/// # Errors
/// If a server can't be reached, the stream does not hold every user, another rebuild is under
/// way, or it was interrupted. Then the copy is as it was, or, after the swap, is best rebuilt
/// again.
pub(crate) async fn run(config: RebuildConfig) -> anyhow::Result<()> {
    let rebuild = Rebuild::open(config).await?;
    let mut filling = pin!(rebuild.fill_and_swap());
    let interrupted = tokio::select! {
        outcome = &mut filling => return rebuild.finish(outcome).await,
        lost = rebuild.lease.keep() => lost.context("the rebuild lost its lease"),
        stopped = stop_signal() => stopped,
    };
    rebuild.stop.cancel();
    // A write that is on its way would bring the collection back after its removal.
    let ended = time::timeout(STOP_DEADLINE, filling).await;
    let outcome = ended.unwrap_or(Ok(())).and(Err(interrupted));
    rebuild.finish(outcome).await
}

async fn stop_signal() -> anyhow::Error {
    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    );
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        return anyhow::anyhow!("can't listen for signals");
    };
    tokio::select! {
        _ = terminate.recv() => anyhow::anyhow!("interrupted by SIGTERM"),
        _ = interrupt.recv() => anyhow::anyhow!("interrupted by SIGINT"),
    }
}

struct Rebuild {
    config: RebuildConfig,
    jetstream: jetstream::Context,
    source: Source,
    lease: Lease,
    /// Which process of MongoDB it began with.
    server: Option<String>,
    live: Projection,
    /// What was set on the old collection when the new one was made like it.
    settings: Settings,
    fresh: Projection,
    positions: MongoPositionStore,
    /// How many events the old copy was found to miss when the rebuild began.
    found: i64,
    /// Cancelled when nothing more is to be written.
    stop: CancellationToken,
    may_be_paused: AtomicBool,
    may_be_swapped: AtomicBool,
}

impl Rebuild {
    /// Checks what can be checked, and makes the new collection.
    async fn open(config: RebuildConfig) -> anyhow::Result<Self> {
        let nats = nats::connect(&config.nats.connection, CONNECTION_NAME);
        let nats = time::timeout(CONNECT_DEADLINE, nats)
            .await
            .context("NATS can't be reached")??;
        let jetstream = jetstream::new(nats);
        let source = Source::open(&jetstream, &config.nats.stream, config.force).await?;
        let MongoConfig {
            mongodb_uri: uri,
            mongodb_database: database,
            mongodb_collection: name,
            ..
        } = &config.mongo;
        let pool = Pool::open(uri, database, MONGODB_CONNECTIONS).await?;
        let positions = MongoPositionStore::new(&pool, name);
        let server = positions.server().await?;
        let found = positions.position().await?.found;
        let live = Projection::new(pool.clone(), name.clone());

        let run = uuid::Uuid::now_v7().simple().to_string();
        let lease = live
            .lease("rebuild", &run)
            .await?
            .context("another rebuild is under way, or was killed less than half a minute ago")?;
        // Whoever left them has lost the lease: without its collection it can't swap any more.
        let prefix = format!("{name}.rebuild.");
        for left_behind in live.others(&prefix).await? {
            left_behind.discard().await?;
        }
        let settings = live.settings().await?;
        let fresh = Projection::new(pool, format!("{prefix}{run}"));
        Ok(Self {
            config,
            jetstream,
            source,
            lease,
            server,
            live,
            settings,
            fresh,
            positions,
            found,
            stop: CancellationToken::new(),
            may_be_paused: AtomicBool::new(false),
            may_be_swapped: AtomicBool::new(false),
        })
    }

    async fn fill_and_swap(&self) -> anyhow::Result<()> {
        let create = self.fresh.create(&self.settings).await;
        create.context("making a collection like the old one")?;
        self.fresh.prepare(self.config.mongo.tombstone_ttl).await?;
        self.fresh.index_living().await?;
        let progress = progress_bar(0);
        let mut replay = Replay::open(
            &self.source,
            &self.jetstream,
            &self.config.nats,
            &progress,
            &self.stop,
        )
        .await?;
        replay.catch_up(&self.fresh).await?;
        if !self.config.force {
            self.ensure_no_user_goes_back(&mut replay).await?;
        }
        self.swap(&mut replay).await?;
        // What the old collection was given at the last moment was on the stream by then.
        replay.catch_up(&self.live).await?;
        self.source.ensure_same(replay.passed).await?;
        // What was forced may lack the events as well.
        if !self.config.force && !self.positions.clear(Some(&[self.found])).await? {
            tracing::warn!("events were found missing during the rebuild; compare with verify");
        }
        progress.finish_and_clear();
        println!(
            "rebuilt from {} events; {} were skipped as dead letters",
            replay.events, replay.skipped
        );
        Ok(())
    }

    /// A stream that lost its messages is being filled again, for example. Looks twice, since users are
    /// written meanwhile.
    async fn ensure_no_user_goes_back(&self, replay: &mut Replay<'_>) -> anyhow::Result<()> {
        let ahead = self.live.ahead_of(&self.fresh).await?;
        if ahead.is_empty() {
            return Ok(());
        }
        replay.catch_up(&self.fresh).await?;
        let behind = self.fresh.behind(&ahead).await?;
        if behind.is_empty() {
            return Ok(());
        }
        let first = &behind[..behind.len().min(MAX_NAMED)];
        bail!(
            "{} users would disappear or go back to an earlier version, among them {first:?}: if the \
             stream is being filled again, wait until the outbox has nothing pending; if the user service \
             has them, run `user-service republish --all` and then this again; if it does not, --force \
             swaps all the same",
            behind.len()
        )
    }

    async fn swap(&self, replay: &mut Replay<'_>) -> anyhow::Result<()> {
        let stream = self.source.stream();
        let consumer = self.config.nats.consumer.as_str();
        self.may_be_paused.store(true, Ordering::Relaxed);
        let paused = pause::pause(&self.jetstream, stream, consumer).await;
        if let Err(error) = &paused {
            let error = format!("{error:#}");
            tracing::warn!(error, "readers may see users go back for a moment");
        }
        let swapped = async {
            replay.catch_up(&self.fresh).await?;
            self.source.ensure_same(replay.passed).await?;
            let is_unchanged = self.live.settings().await? == self.settings;
            ensure!(
                is_unchanged,
                "options or indexes of the collection were changed meanwhile: run this again"
            );
            self.ensure_same_server().await?;
            // These last, so that they still hold when the collections change places.
            ensure!(self.lease.renew().await?, "another rebuild has taken over");
            let is_paused = matches!(paused, Ok(true));
            ensure!(
                !is_paused || pause::lasts(stream, consumer, SWAP_TIME).await?,
                "the projector is not paused for as long as the swap takes: run this again"
            );
            self.may_be_swapped.store(true, Ordering::Relaxed);
            Ok(self.fresh.replace(&self.live).await?)
        };
        let swapped: anyhow::Result<()> = swapped.await;
        self.resume().await;
        swapped
    }

    /// An older copy of what MongoDB stores may have taken its place after a restart: then the new
    /// collection may lack what was written before.
    async fn ensure_same_server(&self) -> anyhow::Result<()> {
        ensure!(
            self.positions.server().await? == self.server,
            "MongoDB was restarted during the rebuild, or has another primary: run this again"
        );
        Ok(())
    }

    async fn finish(&self, outcome: anyhow::Result<()>) -> anyhow::Result<()> {
        let outcome = match self.may_be_swapped.load(Ordering::Relaxed) {
            true => outcome.context(
                "the copy was swapped, or may have been, and may lack the latest events: rebuild it again",
            ),
            false => outcome,
        };
        if outcome.is_err() {
            self.clean_up().await;
        }
        let released = self.lease.release().await;
        outcome.and(released.context("releasing the lease"))
    }

    /// After the swap the new collection has no name of its own any more: this leaves it alone.
    async fn clean_up(&self) {
        if let Err(failure) = self.fresh.discard().await {
            tracing::warn!(%failure, "the half collection is left to the next rebuild");
        }
        self.resume().await;
    }

    /// What this run has paused: not for another one that has taken over.
    async fn resume(&self) {
        if !self.may_be_paused.swap(false, Ordering::Relaxed) {
            return;
        }
        let resumed = pause::resume(self.source.stream(), self.config.nats.consumer.as_str()).await;
        if let Err(error) = resumed {
            let error = format!("{error:#}");
            tracing::warn!(error, "the projector goes on after ten seconds at most");
        }
    }
}
