//! The relay, beside the API or in a process of its own.

use std::time::Duration;

use outbox::{RelayConfig, Written};
use postgres_pool::Pool;
use service_runtime::{
    health::Check,
    http,
    progress::Progress,
    tasks::{Tasks, unless_stopped},
};
use tokio::net::TcpListener;

use super::{LOCK_TIMEOUT, postgres_check};
use crate::{
    config::{DatabaseConfig, RelayRoleConfig},
    migrations::migrate,
};

/// What the relay needs at once: reading, moving the cursor, keeping the lease, listening, and
/// looking after the stream.
const CONNECTIONS: u32 = 5;
/// A relay that reached its servers so long ago, beside its poll interval, is not ready.
const MAX_SILENCE: Duration = Duration::from_secs(10);

/// A relay that waits to be spawned.
pub(super) struct Relay {
    config: RelayConfig,
    database: DatabaseConfig,
    pool: Pool,
    written: Written,
    progress: Progress,
}

impl Relay {
    pub(super) fn new(
        database: &DatabaseConfig,
        config: RelayConfig,
        written: Written,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            pool: postgres_pool::pool(&database.database_url, CONNECTIONS, LOCK_TIMEOUT)?,
            config,
            database: database.clone(),
            written,
            progress: Progress::new("relay"),
        })
    }

    /// Ready means that it publishes, has found nothing to publish, or stands by for another.
    pub(super) fn check(&self) -> Check {
        (self.progress).check(MAX_SILENCE + 2 * self.config.poll_interval)
    }

    /// Brings the schema up to date first.
    pub(super) fn spawn(self, tasks: &mut Tasks) {
        let Self {
            config,
            database,
            pool,
            written,
            progress,
        } = self;
        tasks.watch(&progress, config.stall_timeout);
        let shutdown = tasks.shutdown();
        tasks.spawn("relay", async move {
            let migrating = progress.while_retrying(migrate(&database.database_url));
            match unless_stopped(&shutdown, migrating).await {
                Ok(migrated) => migrated?,
                Err(_) => return Ok(()),
            }
            outbox::relay::run(config, pool, written, progress, shutdown).await
        });
    }
}

/// The relay alone, whose health checks listen already.
pub(super) struct RelayApp {
    listener: TcpListener,
    checks: Vec<Check>,
    relay: Relay,
    drain_timeout: Duration,
}

impl RelayApp {
    pub(super) async fn build(config: RelayRoleConfig) -> anyhow::Result<Self> {
        let listener = http::bind(config.listen_addr).await?;
        let drain_timeout = config.relay.drain_timeout;
        let pool = postgres_pool::pool(&config.database.database_url, 1, LOCK_TIMEOUT)?;
        let relay = Relay::new(&config.database, config.relay, Written::default())?;
        Ok(Self {
            listener,
            checks: vec![postgres_check(pool), relay.check()],
            relay,
            drain_timeout,
        })
    }

    pub(super) async fn run(self) -> anyhow::Result<()> {
        let mut tasks = Tasks::new();
        let grace = self.drain_timeout / 2;
        let serving = http::serve_health(self.listener, self.checks, tasks.shutdown(), grace);
        tasks.spawn("health server", serving);
        self.relay.spawn(&mut tasks);
        tasks.run(self.drain_timeout).await
    }
}
