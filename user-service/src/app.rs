//! The roles of the binary: each is a set of tasks that start, stop and drain together.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use outbox::{RelayConfig, Written};
use postgres_pool::Pool;
use serde_json::Value;
use service_runtime::{
    health::{self, Check},
    http::{self, Routes},
    progress::Progress,
    tasks::{Tasks, unless_stopped},
};

use crate::{
    config::{DatabaseConfig, RelayRoleConfig, ServeConfig},
    contract, idempotency,
    migrations::migrate as migrate_schema,
    users::{self, CREATORS, Imports, Users},
};

/// What the relay needs at once: reading, moving the cursor, keeping the lease, listening, and
/// looking after the stream.
const RELAY_CONNECTIONS: u32 = 5;

/// How long a statement waits for a lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the statement of many new users waits for an address that an open transaction holds.
const SHARED_LOCK_TIMEOUT: Duration = Duration::from_millis(50);
/// How long that of a single one does.
const CREATION_LOCK_TIMEOUT: Duration = Duration::from_millis(250);

/// Creators that take longer for what they were asked are not ready.
const MAX_CREATION_TIME: Duration = Duration::from_secs(15);
/// A relay that reached its servers so long ago, beside its poll interval, is not ready.
const MAX_RELAY_SILENCE: Duration = Duration::from_secs(10);

/// Serves the API, with the relay in the same process unless told otherwise.
///
/// # Errors
/// If the address can't be listened on, the database can't be migrated, or a task fails.
pub async fn serve(config: ServeConfig) -> anyhow::Result<()> {
    let ServeConfig {
        listen,
        http: http_settings,
        database,
        relay,
        no_relay,
        database_connections,
        require_if_match,
        idempotency_retention,
        imports,
    } = config;
    let drain_timeout = relay.drain_timeout;
    let grace = drain_timeout / 2;
    let new_pool = |connections, lock_timeout| {
        postgres_pool::pool(&database.database_url, connections, lock_timeout)
    };
    // Apart, so that writes that wait for locks hold up no reads.
    let reads = new_pool(database_connections.div_ceil(2), LOCK_TIMEOUT)?;
    let writes = new_pool(database_connections.div_ceil(2), LOCK_TIMEOUT)?;
    let written = Written::default();
    let (creation, creators) = users::creation(
        &new_pool(2 * CREATORS, SHARED_LOCK_TIMEOUT)?,
        new_pool(CREATORS, CREATION_LOCK_TIMEOUT)?,
    );
    let mut tasks = Tasks::new();
    let shutdown = tasks.shutdown();
    let users = Users {
        pool: writes.clone(),
        reads,
        creation,
        written: written.clone(),
        require_if_match,
        imports: Arc::new(Imports::new(imports, shutdown.clone())?),
    };
    let creators: Vec<_> = (creators.iter())
        .flat_map(|creator| (0..CREATORS).map(|_| (creator.clone(), Progress::new("creators"))))
        .collect();
    let relaying = Progress::new("relay");
    let mut checks = vec![postgres_check(new_pool(1, LOCK_TIMEOUT)?)];
    checks.extend((creators.iter()).map(|(_, progress)| progress.check(MAX_CREATION_TIME)));
    if !no_relay {
        checks.push(relay_check(&relaying, &relay));
    }
    let mut routes = Routes {
        health: health::router(checks),
        ..users::routes().with_state(users)
    };
    routes.bounded = routes.bounded.merge(contract::router(&relay.topic()));
    let listener = http::bind(listen.listen_addr).await?;

    tasks.spawn(
        "HTTP server",
        http::serve(
            listener,
            routes,
            openapi(),
            http_settings,
            shutdown.clone(),
            grace,
        ),
    );
    for (creator, progress) in creators {
        tasks.watch(&progress, relay.stall_timeout);
        tasks.spawn("creator", creator.run(progress, shutdown.clone(), grace));
    }
    tasks.spawn(
        "sweeper",
        idempotency::sweep(writes.clone(), idempotency_retention, shutdown.clone()),
    );
    tasks.spawn(
        "e-mail backfill",
        users::backfill_normal_emails(writes.clone(), shutdown.clone()),
    );
    tasks.spawn(
        "notifier",
        outbox::notify_relays(writes, written.elsewhere.clone(), shutdown.clone()),
    );
    if no_relay {
        tasks.spawn("migration", async move {
            let migrating = migrate_schema(&database.database_url);
            if let Ok(migrated) = unless_stopped(&shutdown, migrating).await {
                migrated?;
            }
            shutdown.cancelled().await;
            Ok(())
        });
    } else {
        spawn_relay(&mut tasks, database, relay, written, relaying)?;
    }
    tasks.run(drain_timeout).await
}

/// The description of the API, as `/openapi.json` has it.
#[must_use]
pub fn openapi() -> Value {
    let routes = Routes {
        health: health::router(vec![]),
        ..users::routes()
    };
    routes.document("User service", include_str!("app/about.md"))
}

/// Runs the relay alone.
///
/// # Errors
/// If the address can't be listened on, the database can't be migrated, or the relay fails for good.
pub async fn relay(config: RelayRoleConfig) -> anyhow::Result<()> {
    let RelayRoleConfig {
        listen_addr,
        database,
        relay,
    } = config;
    let drain_timeout = relay.drain_timeout;
    let listener = http::bind(listen_addr).await?;
    let progress = Progress::new("relay");
    let pool = postgres_pool::pool(&database.database_url, 1, LOCK_TIMEOUT)?;
    let checks = vec![postgres_check(pool), relay_check(&progress, &relay)];
    let mut tasks = Tasks::new();
    let serving = http::serve_health(listener, checks, tasks.shutdown(), drain_timeout / 2);
    tasks.spawn("health server", serving);
    spawn_relay(&mut tasks, database, relay, Written::default(), progress)?;
    tasks.run(drain_timeout).await
}

/// Brings the schema up to date.
///
/// # Errors
/// If a migration fails.
pub async fn migrate(config: DatabaseConfig) -> anyhow::Result<()> {
    migrate_schema(&config.database_url).await
}

fn spawn_relay(
    tasks: &mut Tasks,
    database: DatabaseConfig,
    config: RelayConfig,
    written: Written,
    progress: Progress,
) -> anyhow::Result<()> {
    tasks.watch(&progress, config.stall_timeout);
    let shutdown = tasks.shutdown();
    let pool = postgres_pool::pool(&database.database_url, RELAY_CONNECTIONS, LOCK_TIMEOUT)?;
    tasks.spawn("relay", async move {
        let migrating = migrate_schema(&database.database_url);
        let migrating = progress.while_retrying(migrating);
        match unless_stopped(&shutdown, migrating).await {
            Ok(migrated) => migrated?,
            Err(_) => return Ok(()),
        }
        outbox::relay::run(config, pool, written, progress, shutdown).await
    });
    Ok(())
}

/// Ready means that the relay publishes, has found nothing to publish, or stands by for another.
fn relay_check(progress: &Progress, config: &RelayConfig) -> Check {
    progress.check(MAX_RELAY_SILENCE + 2 * config.poll_interval)
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
