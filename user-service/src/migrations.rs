//! The schema of this service.

use postgres_pool::{Database, Pool};

/// Waits for Postgres and brings the schema up to date: the outbox first, which this service's tables
/// and statements rely on.
///
/// # Errors
/// If a migration fails for good, or the schema needs a newer release.
pub(crate) async fn migrate(database: &Database) -> anyhow::Result<()> {
    outbox::migrate(database).await?;
    let migrator = sqlx::migrate!("../schema/postgres/migrations");
    postgres_pool::migrate(database, migrator, "schema_requirement").await
}

/// A ledger that was moved from the tables of earlier releases has a cursor without the name of its
/// stream, which no migration can know. It is that of the stream that users have now; without it the
/// whole ledger would be published again.
///
/// # Errors
/// If Postgres can't be reached.
pub(crate) async fn claim_cursor(pool: &Pool, stream: &str) -> sqlx::Result<()> {
    sqlx::query!(
        r"
        update outbox.cursor set stream = $1
        where stream = '' and not exists (select from outbox.cursor where stream = $1)
        ",
        stream,
    )
    .execute(pool)
    .await
    .map(drop)
}
