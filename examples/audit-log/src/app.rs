//! The roles of the binary.

use std::{future::ready, time::Duration};

use event_consumer::{ConsumerSettings, EventConsumer, Holes, Lag};
use postgres_pool::Pool;
use service_runtime::{
    health::Check,
    http, metrics, operator,
    progress::Progress,
    tasks::{Tasks, unless_stopped},
};

use crate::{
    audit_log::AuditLog,
    config::{DeadLettersConfig, ServeConfig},
    position_store::PositionRow,
    store,
};

const CONNECTION_NAME: &str = "audit-log";
/// Says which releases can run on the schema, should a migration ever make that differ.
const SCHEMA_REQUIREMENT: &str = "schema_requirement";
/// Two batches, the position and a health check at once.
const MAX_CONNECTIONS: u32 = 4;
/// A process that writes the same events is done long before.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// Longer than a write may take, and than JetStream may be silent.
const MAX_SILENCE: Duration = Duration::from_secs(15);

/// Records events until told to stop.
///
/// # Errors
/// If the address can't be listened on, the database can't be migrated, or a task fails.
pub async fn serve(config: ServeConfig) -> anyhow::Result<()> {
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    let lists = [
        postgres_pool::metrics::METRICS,
        event_consumer::metrics::METRICS,
    ];
    metrics::install(&config.metrics, name, version, &lists);
    let listener = http::bind(config.listen.listen_addr).await?;
    let database = config.database();
    let pool = postgres_pool::pool(&database, MAX_CONNECTIONS, LOCK_TIMEOUT)?.named("audit_log");
    let (topic, consumer_name) = (config.nats.topic(), config.nats.consumer);
    let progress = Progress::new("consumer");
    let position = PositionRow::new(pool.clone(), consumer_name.to_string());
    let holes = Holes::new(position, topic.clone(), consumer_name.clone());
    let settings = ConsumerSettings {
        nats: config.nats.connection,
        connection_name: CONNECTION_NAME,
        topic: topic.clone(),
        consumer: consumer_name.clone(),
        ack_wait: config.ack_wait,
    };
    let handler = AuditLog::new(pool.clone());
    let consumer =
        EventConsumer::new(settings, handler, progress.clone()).with_holes(holes.clone());

    let mut tasks = Tasks::new();
    config.process.start_traces(&mut tasks)?;
    tasks.watch(&progress, config.process.stall_timeout);
    let shutdown = tasks.shutdown();
    let grace = config.process.drain_timeout / 2;
    let lag = Lag::new();
    let checks = vec![
        postgres_check(pool),
        progress.check(MAX_SILENCE),
        Check::new("holes", {
            let holes = holes.clone();
            move || ready(holes.check())
        }),
        Check::new("deliveries", {
            let lag = lag.clone();
            move || ready(lag.check_deliveries())
        }),
    ];
    let stop = shutdown.clone();
    tasks.spawn("health server", async move {
        operator::serve(listener, checks, &config.metrics, stop, grace).await
    });
    let (connection, stop) = (consumer.connection(), shutdown.clone());
    tasks.spawn_watched("holes", config.process.stall_timeout, |progress| {
        holes.observe(connection, progress, stop)
    });
    let (connection, stop) = (consumer.connection(), shutdown.clone());
    tasks.spawn_watched("lag", config.process.stall_timeout, |progress| {
        lag.observe(connection, topic, consumer_name, progress, stop)
    });
    tasks.spawn("consumer", async move {
        let migrating = postgres_pool::migrate(&database, sqlx::migrate!(), SCHEMA_REQUIREMENT);
        let migrating = progress.while_retrying(migrating);
        match unless_stopped(&shutdown, migrating).await {
            Ok(migrated) => migrated?,
            Err(_) => return Ok(()),
        }
        consumer.run(shutdown, grace).await
    });
    tasks.run(config.process.drain_timeout).await
}

fn postgres_check(pool: Pool) -> Check {
    Check::new("postgres", move || {
        let pool = pool.clone();
        async move { Ok(store::check(&pool).await?) }
    })
}

/// Lists, shows, replays and discards the events that this service rejected.
///
/// # Errors
/// If NATS can't be reached, or there is no such letter.
pub async fn dead_letters(config: DeadLettersConfig) -> anyhow::Result<()> {
    let nats = config.nats;
    let run = (config.command).run(&nats.connection, nats.topic(), nats.consumer.clone());
    run.await
}
