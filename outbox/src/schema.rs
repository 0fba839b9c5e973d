//! The schema `outbox`.

use postgres_pool::Database;
use sqlx::migrate::Migrator;

/// Waits for Postgres and brings the schema `outbox` up to date. To be run before the migrations of a
/// service that uses it. Has no bound of its own: run it under the shutdown token.
///
/// # Errors
/// If the URL is not valid, or leads to a pooler of transactions, a migration fails for good, or the schema needs a newer release.
pub async fn migrate(database: &Database) -> anyhow::Result<()> {
    postgres_pool::migrate(database, migrator(), "outbox.schema_requirement").await
}

/// Its record of migrations is apart from that of the database's other schemas.
fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("./migrations");
    migrator.create_schema("outbox");
    migrator.dangerous_set_table_name("outbox._sqlx_migrations");
    migrator
}
