//! `outbox-relay run`: the relay with its health checks.

use std::time::Duration;

use anyhow::Context;
use outbox::{Relay, Routes, Written, reconciliation, relay_pool, status};
use postgres_pool::{Database, Pool};
use service_runtime::{
    health::Check,
    http, operator,
    progress::Progress,
    settings::ProcessSettings,
    tasks::{Tasks, unless_stopped},
};

use crate::cli::RunConfig;

/// How long a statement waits for a lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) async fn run(database: &Database, config: RunConfig) -> anyhow::Result<()> {
    let RunConfig {
        listen_addr,
        relay,
        metrics,
        process,
    } = config;
    let ProcessSettings {
        drain_timeout,
        stall_timeout,
        ..
    } = process;
    service_runtime::metrics::install(
        &metrics,
        env!("CARGO_BIN_NAME"),
        env!("CARGO_PKG_VERSION"),
        &[outbox::metrics::METRICS, postgres_pool::metrics::METRICS],
    );
    let routes = Routes::new(relay.routes.clone())?;
    let listener = http::bind(listen_addr).await?;
    let progress = Progress::new("relay");
    let relay = Relay {
        pool: relay_pool(database, &routes)?,
        routes,
        config: relay,
        written: Written::default(),
        progress: progress.clone(),
    };
    let pool = postgres_pool::pool(database, 1, LOCK_TIMEOUT)?.named("checks");
    let checks = vec![
        postgres_check(pool.clone()),
        relay.check(),
        reconciliation::check(pool),
    ];
    let mut tasks = Tasks::new();
    process.start_traces(&mut tasks)?;
    let shutdown = tasks.shutdown();
    let (grace, stop) = (drain_timeout / 2, shutdown.clone());
    tasks.spawn("health server", async move {
        operator::serve(listener, checks, &metrics, stop, grace).await
    });
    tasks.watch(&progress, stall_timeout);
    let (sampler, stop) = (relay.sampler(), shutdown.clone());
    tasks.spawn_watched("outbox sampler", stall_timeout, |progress| {
        sampler.run(progress, stop)
    });
    let database = database.clone();
    tasks.spawn("relay", async move {
        let migrating = progress.while_retrying(outbox::migrate(&database));
        match unless_stopped(&shutdown, migrating).await {
            Ok(migrated) => migrated?,
            Err(_) => return Ok(()),
        }
        relay.run(shutdown).await
    });
    tasks.run(drain_timeout).await
}

/// Ready means that the schema is there.
fn postgres_check(pool: Pool) -> Check {
    Check::new("postgres", move || {
        let pool = pool.clone();
        async move {
            status::relay(&pool).await.context("asking Postgres")?;
            Ok(())
        }
    })
}
