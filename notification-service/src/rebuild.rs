//! `notification-service rebuild`: the copy made anew from the stream, beside the one that is read.
//!
//! The new collection is filled while the projector goes on with the old one, and then takes its
//! place in one step. Just before, the projector is held still for a moment: so the new one has all
//! that the old one has, and no reader sees a user go back. Should that fail, nothing is lost all
//! the same: whatever the old one was given meanwhile was on the stream by then, and is applied
//! once more to the new one after the change.

mod pause;
mod replay;

use std::time::Duration;

use anyhow::{Context, bail};
use async_nats::jetstream::{self, stream::Stream};
use indicatif::{ProgressBar, ProgressStyle};
use service_runtime::nats;
use tokio::{signal, time};

use self::replay::Replay;
use crate::{
    config::RebuildConfig,
    mongo,
    projection::{CreateError, HoleStore, Projection},
};

const CONNECTION_NAME: &str = "notification-service rebuild";
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// Makes the copy anew, and says on standard output what it did.
///
/// # Errors
/// If a server can't be reached, the stream lacks its beginning, another rebuild is under way, or
/// it was interrupted. Then the copy is as it was, or, after the swap, is best rebuilt again.
pub(crate) async fn run(config: RebuildConfig) -> anyhow::Result<()> {
    let rebuild = Rebuild::open(config).await?;
    let outcome = tokio::select! {
        outcome = rebuild.fill_and_swap() => outcome,
        interrupted = signal::ctrl_c() => {
            interrupted.context("listening for Ctrl-C")?;
            Err(anyhow::anyhow!("interrupted"))
        }
    };
    if outcome.is_err() {
        // After the swap there is none: this does not touch the copy.
        rebuild
            .fresh
            .discard()
            .await
            .context("discarding the half collection")?;
    }
    outcome
}

struct Rebuild {
    config: RebuildConfig,
    stream: Stream,
    live: Projection,
    fresh: Projection,
    holes: HoleStore,
    /// How many events the old copy was found to miss when the rebuild began.
    found: i64,
}

impl Rebuild {
    /// Checks what can be checked, and makes the new collection.
    async fn open(config: RebuildConfig) -> anyhow::Result<Self> {
        let nats = nats::connect(&config.nats.connection, CONNECTION_NAME);
        let nats = time::timeout(CONNECT_DEADLINE, nats)
            .await
            .context("NATS can't be reached")??;
        let topic = config.nats.topic();
        let stream = jetstream::new(nats).get_stream(&topic.stream).await?;
        let first = stream.cached_info().state.first_sequence;
        if first > 1 && !config.after_republish {
            bail!(
                "the stream begins at sequence {first}: users whose events are gone from it would \
                 be missing. Run `user-service republish --all`, then this with --after-republish"
            );
        }
        let client = mongo::client(&config.mongo.mongodb_uri).await?;
        let database = client.database(&config.mongo.mongodb_database);
        let name = &config.mongo.mongodb_collection;
        let holes = HoleStore::new(&database, name);
        let found = holes.load().await?.map_or(0, |read| read.progress.found);
        let live = Projection::new(database.clone(), name.clone());
        let fresh = Projection::new(database, format!("{name}.rebuild"));
        if config.anew {
            fresh.discard().await?;
        }
        match fresh.create().await {
            Err(CreateError::Exists) => bail!(
                "{name}.rebuild is there already: another rebuild is under way, or was killed; \
                 if it was, --anew begins again"
            ),
            outcome => outcome?,
        }
        Ok(Self {
            config,
            stream,
            live,
            fresh,
            holes,
            found,
        })
    }

    async fn fill_and_swap(&self) -> anyhow::Result<()> {
        self.fresh.prepare(self.config.mongo.tombstone_ttl).await?;
        self.fresh.index_living().await?;
        let topic = self.config.nats.topic();
        let progress = progress_bar();
        let mut replay = Replay::open(&self.stream, &topic, &progress).await?;
        replay.catch_up(&self.fresh).await?;
        self.swap(&mut replay).await?;
        // What the old collection was given at the last moment was on the stream by then.
        replay.catch_up(&self.live).await?;
        if !self.holes.clear(Some(&[self.found])).await? {
            tracing::warn!("events were found missing during the rebuild; compare with verify");
        }
        progress.finish_and_clear();
        println!(
            "rebuilt from {} events; {} were skipped as dead letters",
            replay.events, replay.skipped
        );
        Ok(())
    }

    async fn swap(&self, replay: &mut Replay<'_>) -> anyhow::Result<()> {
        if let Err(error) = pause::pause(&self.stream, &self.config.consumer).await {
            let error = format!("{error:#}");
            tracing::warn!(error, "readers may see users go back for a moment");
        }
        let swapped = async {
            replay.catch_up(&self.fresh).await?;
            Ok(self.fresh.replace(&self.live).await?)
        };
        let swapped: anyhow::Result<()> = swapped.await;
        pause::resume(&self.stream, &self.config.consumer).await?;
        swapped
    }
}

/// By the sequences of the stream. Shows nothing where there is no terminal.
fn progress_bar() -> ProgressBar {
    let style = "{bar:40} {pos}/{len} {per_sec} {eta}";
    let style = ProgressStyle::with_template(style).expect("a valid template");
    ProgressBar::new(0).with_style(style)
}
