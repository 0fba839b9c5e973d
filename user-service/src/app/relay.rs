//! The relay, beside the API or in a process of its own.

use outbox::{RelayConfig, Written, reconciliation, relay_pool};
use postgres_pool::Database;
use service_runtime::{
    backoff,
    health::Check,
    http,
    metrics::MetricsSettings,
    operator,
    progress::{Progress, StallTimeout},
    settings::ProcessSettings,
    tasks::{Tasks, unless_stopped},
};
use tokio::net::TcpListener;

use super::{LOCK_TIMEOUT, postgres_check};
use crate::{
    config::{RelayRoleConfig, TopicConfig},
    migrations::{claim_cursor, migrate},
};

/// A relay that waits to be spawned.
pub(super) struct Relay {
    relay: outbox::Relay,
    database: Database,
    /// Of the users' events.
    stream: String,
}

impl Relay {
    pub(super) fn new(
        database: &Database,
        topic: &TopicConfig,
        config: RelayConfig,
        written: Written,
    ) -> anyhow::Result<Self> {
        let routes = topic.routes(&config.routes)?;
        let relay = outbox::Relay {
            pool: relay_pool(database, &routes)?,
            routes,
            config,
            written,
            progress: Progress::new("relay"),
        };
        Ok(Self {
            relay,
            database: database.clone(),
            stream: topic.stream.clone(),
        })
    }

    pub(super) fn check(&self) -> Check {
        self.relay.check()
    }

    /// Brings the schema up to date first.
    pub(super) fn spawn(self, tasks: &mut Tasks, stall_timeout: StallTimeout) {
        let Self {
            relay,
            database,
            stream,
        } = self;
        let progress = relay.progress.clone();
        tasks.watch(&progress, stall_timeout);
        let (sampler, shutdown) = (relay.sampler(), tasks.shutdown());
        tasks.spawn_watched("outbox sampler", stall_timeout, |progress| {
            sampler.run(progress, shutdown)
        });
        let shutdown = tasks.shutdown();
        tasks.spawn("relay", async move {
            let migrating = async {
                migrate(&database).await?;
                backoff::wait_for("Postgres", || claim_cursor(&relay.pool, &stream)).await;
                anyhow::Ok(())
            };
            match unless_stopped(&shutdown, progress.while_retrying(migrating)).await {
                Ok(migrated) => migrated?,
                Err(_) => return Ok(()),
            }
            relay.run(shutdown).await
        });
    }
}

/// The relay alone, whose health checks listen already.
pub(super) struct RelayApp {
    listener: TcpListener,
    checks: Vec<Check>,
    metrics: MetricsSettings,
    relay: Relay,
    process: ProcessSettings,
}

impl RelayApp {
    pub(super) async fn build(config: RelayRoleConfig) -> anyhow::Result<Self> {
        let listener = http::bind(config.listen_addr).await?;
        let database = config.database.database();
        let pool = postgres_pool::pool(&database, 1, LOCK_TIMEOUT)?.named("checks");
        let written = Written::default();
        let relay = Relay::new(&database, &config.topic, config.relay, written)?;
        Ok(Self {
            listener,
            checks: vec![
                postgres_check(pool.clone()),
                relay.check(),
                reconciliation::check(pool),
            ],
            metrics: config.metrics,
            relay,
            process: config.process,
        })
    }

    pub(super) async fn run(self) -> anyhow::Result<()> {
        let mut tasks = Tasks::new();
        self.process.start_traces(&mut tasks)?;
        let grace = self.process.drain_timeout / 2;
        let (checks, shutdown) = (self.checks, tasks.shutdown());
        tasks.spawn("health server", async move {
            operator::serve(self.listener, checks, &self.metrics, shutdown, grace).await
        });
        self.relay.spawn(&mut tasks, self.process.stall_timeout);
        tasks.run(self.process.drain_timeout).await
    }
}
