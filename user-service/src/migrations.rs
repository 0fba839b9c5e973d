//! The schema of this service.

use service_runtime::connection_url::ConnectionUrl;

/// Waits for Postgres and brings the schema up to date.
///
/// # Errors
/// If a migration fails for good, or the schema needs a newer release.
pub(crate) async fn migrate(url: &ConnectionUrl) -> anyhow::Result<()> {
    let migrator = sqlx::migrate!("../schema/postgres/migrations");
    postgres_pool::migrate(url, migrator, "schema_requirement").await
}
