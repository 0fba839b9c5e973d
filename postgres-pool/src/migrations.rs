//! Bringing the schema up to date, and telling whether this release can run on it.

use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use service_runtime::backoff;
use sqlx::{
    AssertSqlSafe, Connection, PgConnection,
    migrate::{MigrateError, Migrator},
    postgres::PgConnectOptions,
};
use tokio::time::{sleep, timeout};

use super::{Database, failure::Failure, options};

/// How long connecting may take, and asking about the server's state.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Far longer than a migration takes that is meant to run beside an older release; one that takes
/// longer has lost its connection.
const DEADLINE: Duration = Duration::from_mins(10);
/// Lets others use the tables between two tries.
const RETRY: Duration = Duration::from_secs(2);

/// Waits for a Postgres that takes writes and brings its schema up to date. Several processes may
/// do so at once: the migrator holds an advisory lock. Has no bound of its own: run it under the
/// shutdown token.
///
/// `requirement` names the table, if there is one yet, whose column `migration` says which
/// migration a release has to know to run on the schema. Migrations that this release does not know
/// are left alone.
///
/// # Errors
/// If the URL is not valid, or leads to a pooler of transactions, a migration fails for good, or the
/// schema needs a newer release.
pub async fn migrate(
    database: &Database,
    mut migrator: Migrator,
    requirement: &'static str,
) -> anyhow::Result<()> {
    let (url, pooler) = database.for_migrations()?;
    let options = options(url, pooler)?;
    // A newer release may have been here: whether that matters is said by the schema itself.
    migrator.set_ignore_missing(true);
    loop {
        // A pool would hide why it can't connect. Each attempt has a connection of its own, because
        // one that failed may still be in a transaction.
        let mut connection = backoff::wait_for("Postgres", || connect(&options)).await;
        let migrating = try_migrate(&migrator, requirement, &mut connection);
        match timeout(DEADLINE, migrating).await {
            Ok(Ok(())) => break,
            Ok(Err(error)) if is_passing(&error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "migrating failed; trying again"
                );
            }
            Ok(Err(error)) => return Err(error).context("migrating the database"),
            Err(_) => tracing::warn!("migrating took too long; trying again"),
        }
        sleep(RETRY).await;
    }
    tracing::info!(database = %url, "schema is up to date");
    Ok(())
}

/// A connection to a server that takes writes.
async fn connect(options: &PgConnectOptions) -> anyhow::Result<PgConnection> {
    let connecting = async {
        let mut connection = PgConnection::connect_with(options).await?;
        let is_read_only = sqlx::query_scalar!(
            r#"
            select pg_is_in_recovery() or current_setting('transaction_read_only')::boolean
                as "is_read_only!"
            "#,
        )
        .fetch_one(&mut connection)
        .await?;
        ensure!(
            !is_read_only,
            "the server is read-only: a standby that is not promoted, or set so"
        );
        Ok(connection)
    };
    let connected = timeout(CONNECT_DEADLINE, connecting).await;
    connected.unwrap_or_else(|_| Err(anyhow!("no answer within {CONNECT_DEADLINE:?}")))
}

async fn try_migrate(
    migrator: &Migrator,
    requirement: &str,
    connection: &mut PgConnection,
) -> anyhow::Result<()> {
    check_requirement(migrator, requirement, connection).await?;
    migrator.run_direct(None, connection, false).await?;
    // Another release may have been faster.
    check_requirement(migrator, requirement, connection).await
}

/// Dynamic SQL: the caller names the table.
async fn check_requirement(
    migrator: &Migrator,
    requirement: &str,
    connection: &mut PgConnection,
) -> anyhow::Result<()> {
    let is_told: bool = sqlx::query_scalar("select to_regclass($1) is not null")
        .bind(requirement)
        .fetch_one(&mut *connection)
        .await?;
    if !is_told {
        return Ok(());
    }
    let required = format!("select migration from {requirement}");
    let required: i64 = sqlx::query_scalar(AssertSqlSafe(required))
        .fetch_one(connection)
        .await?;
    let known = migrator.iter().map(|it| it.version).max().unwrap_or(0);
    if required > known {
        bail!(
            "the schema requires a release that knows migration {required}, and this one \
             (version {}) knows those up to {known}: run a newer release",
            env!("CARGO_PKG_VERSION")
        );
    }
    Ok(())
}

/// Whether it may succeed later.
fn is_passing(error: &anyhow::Error) -> bool {
    let cause = match error.downcast_ref() {
        Some(MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _)) => {
            Some(cause)
        }
        _ => error.downcast_ref(),
    };
    cause.is_some_and(|cause| Failure::from(cause) != Failure::Refused)
}
