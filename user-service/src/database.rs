//! Connections to Postgres, and its schema.

use std::{str::FromStr, time::Duration};

use anyhow::Context;
use service_runtime::{backoff, connection_url::ConnectionUrl};
use sqlx::{
    Connection, PgConnection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};

static MIGRATIONS: Migrator = sqlx::migrate!("../schema/postgres/migrations");

/// Below the deadline of a request, so that one that was given up holds no connection.
const STATEMENT_TIMEOUT: &str = "5s";
/// How long a request waits for a free connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection that was used this recently is taken to be alive.
const TRUSTED_IDLE_TIME: Duration = Duration::from_secs(1);

/// A pool that connects when it is first used.
///
/// # Errors
/// If the URL is not one that Postgres understands.
pub(crate) fn pool(url: &ConnectionUrl, max_connections: u32) -> anyhow::Result<PgPool> {
    pool_with_lock_timeout(url, max_connections, STATEMENT_TIMEOUT)
}

/// As [`pool`], but a statement waits only so long for a lock.
///
/// # Errors
/// If the URL is not one that Postgres understands.
pub(crate) fn pool_with_lock_timeout(
    url: &ConnectionUrl,
    max_connections: u32,
    lock_timeout: &str,
) -> anyhow::Result<PgPool> {
    let options = options(url)?.options([
        ("statement_timeout", STATEMENT_TIMEOUT),
        ("lock_timeout", lock_timeout),
    ]);
    Ok(PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // Asking before every use would double the round trips of a write.
        .test_before_acquire(false)
        .before_acquire(|connection, used| {
            Box::pin(async move {
                if used.idle_for > TRUSTED_IDLE_TIME {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options))
}

/// Waits for Postgres and brings its schema up to date. Several processes may do so at once: the
/// migrator holds an advisory lock. Has no bound of its own: run it under the shutdown token.
///
/// # Errors
/// If the URL is not valid or a migration fails for another reason than a lost connection.
pub(crate) async fn migrate(url: &ConnectionUrl) -> anyhow::Result<()> {
    let options = options(url)?;
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect_lazy_with(options.clone());
    loop {
        // A pool would hide why it can't connect.
        backoff::wait_for("Postgres", || PgConnection::connect_with(&options)).await;
        match MIGRATIONS.run(&pool).await {
            Ok(()) => break,
            Err(error) if is_lost_connection(&error) => {
                tracing::warn!(%error, "connection lost while migrating; trying again");
            }
            Err(error) => return Err(error).context("migrating the database"),
        }
    }
    pool.close().await;
    tracing::info!(database = %url, "schema is up to date");
    Ok(())
}

fn options(url: &ConnectionUrl) -> anyhow::Result<PgConnectOptions> {
    PgConnectOptions::from_str(url.expose())
        // The driver's error repeats the text, which may hold a password.
        .map_err(|_| anyhow::anyhow!("DATABASE_URL is not a valid Postgres URL"))
        .map(|options| options.application_name("user-service"))
}

fn is_lost_connection(error: &sqlx::migrate::MigrateError) -> bool {
    matches!(
        error,
        sqlx::migrate::MigrateError::Execute(sqlx::Error::Io(_))
            | sqlx::migrate::MigrateError::ExecuteMigration(sqlx::Error::Io(_), _)
    )
}
