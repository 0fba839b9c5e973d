//! The roles of the binary: each is built, which checks its settings and takes its port, and then run.

mod api;
mod relay;

use std::time::Duration;

use anyhow::Context;
use outbox::{NatsOnDemand, Written, feed, reconciliation};
use postgres_pool::{Database, Pool};
use serde_json::Value;
use service_runtime::{
    health::Check,
    http::{self, Feed, HttpSettings, Routes},
    metrics::{self, MetricsSettings},
    operator,
    progress::Progress,
    settings::ProcessSettings,
    tasks::{Tasks, unless_stopped},
};
use tokio::net::TcpListener;

pub use self::api::API;
use self::relay::{Relay, RelayApp};
use crate::{
    config::{DatabaseConfig, RelayRoleConfig, ServeConfig},
    contract, idempotency, live_page,
    migrations::migrate as migrate_schema,
    outbox_api::{self, OutboxApi},
    users::{self, CREATORS, Creator, Imports, Users},
};

/// How long a statement waits for a lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the statement of many new users waits for an address that an open transaction holds.
const SHARED_LOCK_TIMEOUT: Duration = Duration::from_millis(50);
/// How long that of a single one does.
const CREATION_LOCK_TIMEOUT: Duration = Duration::from_millis(250);

/// Creators that take longer for what they were asked are not ready.
const MAX_CREATION_TIME: Duration = Duration::from_secs(15);

/// Serves the API, with the relay in the same process unless told otherwise.
///
/// # Errors
/// If the address can't be listened on, the database can't be migrated, or a task fails.
pub async fn serve(config: ServeConfig) -> anyhow::Result<()> {
    collect_metrics(&config.metrics);
    App::build(config).await?.run().await
}

/// Runs the relay alone.
///
/// # Errors
/// If the address can't be listened on, the database can't be migrated, or the relay fails for good.
pub async fn relay(config: RelayRoleConfig) -> anyhow::Result<()> {
    collect_metrics(&config.metrics);
    RelayApp::build(config).await?.run().await
}

fn collect_metrics(settings: &MetricsSettings) {
    let lists = [outbox::metrics::METRICS, postgres_pool::metrics::METRICS];
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    metrics::install(settings, name, version, &lists);
}

/// Brings the schema up to date.
///
/// # Errors
/// If a migration fails.
pub async fn migrate(config: DatabaseConfig) -> anyhow::Result<()> {
    migrate_schema(&config.database()).await
}

/// The description of the API, as `/openapi.json` has it.
#[must_use]
pub fn openapi() -> Value {
    let routes = Routes {
        health: operator::description(),
        ..users::description().merge(outbox_api::description())
    };
    routes.document(&API)
}

/// The API, which listens already and waits to be run.
struct App {
    listener: TcpListener,
    routes: Routes,
    http_settings: HttpSettings,
    creators: Vec<(Creator, Progress)>,
    writes: Pool,
    idempotency_retention: Duration,
    database: Database,
    /// `None` if it runs in another process.
    relay: Option<Relay>,
    feed: Feed,
    /// What the feed tells.
    news: feed::Source,
    process: ProcessSettings,
    tasks: Tasks,
}

impl App {
    /// Postgres and NATS need not be there yet.
    async fn build(config: ServeConfig) -> anyhow::Result<Self> {
        let listener = http::bind(config.listen.listen_addr).await?;
        let database = config.database.database();
        let new_pool =
            |connections, lock_timeout| postgres_pool::pool(&database, connections, lock_timeout);
        // Apart, so that writes that wait for locks hold up no reads.
        let connections = config.database_connections.div_ceil(2);
        let reads = new_pool(connections, LOCK_TIMEOUT)?.named("reads");
        let writes = new_pool(connections, LOCK_TIMEOUT)?.named("writes");
        let (creation, creators) = users::creation(
            &new_pool(2 * CREATORS, SHARED_LOCK_TIMEOUT)?.named("creation"),
            new_pool(CREATORS, CREATION_LOCK_TIMEOUT)?.named("contended_creation"),
        );
        let creators: Vec<_> = (creators.iter())
            .flat_map(|creator| (0..CREATORS).map(|_| (creator.clone(), Progress::new("creators"))))
            .collect();
        let mut tasks = Tasks::new();
        config.process.start_traces(&mut tasks)?;
        let written = Written::default();
        let topic = config.topic.topic();
        let nats = NatsOnDemand::new(config.relay.nats.clone());
        let relay = if config.no_relay {
            None
        } else {
            Some(Relay::new(
                &database,
                &config.topic,
                config.relay,
                written.clone(),
            )?)
        };
        let imports = Imports::new(
            config.imports,
            writes.clone(),
            written.clone(),
            tasks.shutdown(),
        )?;
        let news = feed::Source::new(&database, nats.clone())?;
        let feed = Feed::new(config.live.followers(), tasks.shutdown());
        let outbox = OutboxApi::new(
            writes.clone(),
            reads.clone(),
            written.clone(),
            nats,
            feed.clone(),
        );
        let users = Users {
            pool: writes.clone(),
            reads,
            creation,
            written: written.clone(),
            require_if_match: config.require_if_match,
        };
        let checking = new_pool(1, LOCK_TIMEOUT)?.named("checks");
        let mut checks = vec![postgres_check(checking.clone())];
        checks.extend((creators.iter()).map(|(_, progress)| progress.check(MAX_CREATION_TIME)));
        checks.extend(relay.as_ref().map(Relay::check));
        checks.extend(relay.as_ref().map(|_| reconciliation::check(checking)));
        let listens_on = listener.local_addr()?;
        let mut routes = Routes {
            health: operator::router(checks, &config.metrics, listens_on)?,
            public: live_page::router(&config.live.live_copy_url),
            ..users::routes(users, imports).merge(outbox_api::routes(outbox))
        };
        routes.bounded = routes.bounded.merge(contract::router(&topic));
        Ok(Self {
            listener,
            routes,
            http_settings: config.http,
            creators,
            writes,
            idempotency_retention: config.idempotency_retention,
            database,
            relay,
            feed,
            news,
            process: config.process,
            tasks,
        })
    }

    /// Serves until told to stop.
    async fn run(mut self) -> anyhow::Result<()> {
        let shutdown = self.tasks.shutdown();
        // Half the time, so that what hangs is cut in good order before the drain itself is.
        let grace = self.process.drain_timeout / 2;
        let serving = http::serve(
            self.listener,
            self.routes,
            &API,
            self.http_settings,
            shutdown.clone(),
            grace,
        );
        self.tasks.spawn("HTTP server", serving);
        for (creator, progress) in self.creators {
            self.tasks.watch(&progress, self.process.stall_timeout);
            let creating = creator.run(progress, shutdown.clone(), grace);
            self.tasks.spawn("creator", creating);
        }
        let (pool, retention, stop) = (
            self.writes.clone(),
            self.idempotency_retention,
            shutdown.clone(),
        );
        (self.tasks).spawn_watched("sweeper", self.process.stall_timeout, |progress| {
            idempotency::sweep(pool, retention, progress, stop)
        });
        let (pool, stop) = (self.writes.clone(), shutdown.clone());
        (self.tasks).spawn_watched("id sequence", self.process.stall_timeout, |progress| {
            users::watch_id_sequence(pool, progress, stop)
        });
        let (pool, stop) = (self.writes, shutdown.clone());
        (self.tasks).spawn_watched("e-mail backfill", self.process.stall_timeout, |progress| {
            users::backfill_normal_emails(pool, progress, stop)
        });
        let (feed, news) = (self.feed, self.news);
        (self.tasks).spawn_watched("outbox feed", self.process.stall_timeout, |progress| {
            outbox_api::tell(feed, news, progress)
        });
        match self.relay {
            Some(relay) => relay.spawn(&mut self.tasks, self.process.stall_timeout),
            None => self.tasks.spawn("migration", async move {
                let migrating = migrate_schema(&self.database);
                if let Ok(migrated) = unless_stopped(&shutdown, migrating).await {
                    migrated?;
                }
                shutdown.cancelled().await;
                Ok(())
            }),
        }
        self.tasks.run(self.process.drain_timeout).await
    }
}

/// Ready means that users can be read and written: the schema is there, as this release needs it, and
/// the server takes writes. Over a connection of its own, so that requests and health do not wait for
/// each other.
fn postgres_check(pool: Pool) -> Check {
    Check::new("postgres", move || {
        let pool = pool.clone();
        async move {
            users::check(&pool)
                .await
                .context("asking Postgres whether it takes writes")?;
            Ok(())
        }
    })
}
