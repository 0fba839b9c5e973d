//! What happens in the outbox, as it happens: for people who watch.
//!
//! A [`Source`] is meant to run only while somebody listens. It reads the ledger and the streams itself,
//! so it tells the same wherever the relay runs, and whether one does. What it tells is bounded: of many
//! events at once the newest are told and the others counted.

mod published;
mod status;
mod written;

use std::{convert::Infallible, time::Duration};

use postgres_pool::{Database, Pool};
use serde::Serialize;
use service_runtime::progress::Progress;
use tokio::sync::watch;

use self::{published::Published, status::Observer, written::Written};
pub use self::{
    published::PublishedEvent,
    status::{Availability, RelayNow, Status, StreamNow},
    written::WrittenEvent,
};
use crate::nats_on_demand::NatsOnDemand;

/// How often news are told.
const TICK: Duration = Duration::from_millis(100);
/// Events in one batch.
const MAX_EVENTS: usize = 100;
/// One for the ledger, one for the status.
const CONNECTIONS: u32 = 2;
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

/// Something that has happened.
#[derive(Debug)]
pub enum News {
    /// How the outbox is doing; once a second, changed or not.
    Status(Status),
    /// Committed to the ledger.
    Written(Batch<WrittenEvent>),
    /// Stored by a stream.
    Published(Batch<PublishedEvent>),
}

/// What came together, in order.
#[derive(Debug, Serialize)]
pub struct Batch<T> {
    pub events: Vec<T>,
    /// How many before them were left out: there were too many at once.
    pub skipped: u64,
}

/// Where news come from: Postgres and NATS, over connections of its own.
#[derive(Debug, Clone)]
pub struct Source {
    pool: Pool,
    nats: NatsOnDemand,
}

impl Source {
    /// Connects when it is first needed.
    ///
    /// # Errors
    /// If the URL is not one that Postgres understands.
    pub fn new(database: &Database, nats: NatsOnDemand) -> anyhow::Result<Self> {
        Ok(Self {
            pool: postgres_pool::pool(database, CONNECTIONS, LOCK_TIMEOUT)?.named("feed"),
            nats,
        })
    }

    /// Tells the news from now on, for as long as it runs. The first is the status: whatever is
    /// written after it is told, and what is published then, as far as Postgres and NATS could be
    /// reached. What is not reached is tried again, and the status says so meanwhile.
    pub async fn follow(&self, progress: &Progress, tell: impl Fn(News)) -> Infallible {
        let (streams, listed) = watch::channel(None);
        let mut observer = Observer::new(&self.pool, &self.nats, streams);
        let mut written = Written::new(&self.pool);
        let mut published = Published::new(&self.nats, listed);
        let (first, ()) = tokio::join!(observer.observe(), written.begin());
        published.begin().await;
        tell(News::Status(first));
        tokio::select! {
            never = observer.follow(progress, &tell) => never,
            never = written.follow(&tell) => never,
            never = published.follow(&tell) => never,
        }
    }
}
