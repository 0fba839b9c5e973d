//! The schema of this service.

use service_runtime::connection_url::ConnectionUrl;

/// Waits for Postgres and brings the schema up to date: the outbox first, which this service's tables
/// and statements rely on.
///
/// # Errors
/// If a migration fails for good, or the schema needs a newer release.
pub(crate) async fn migrate(url: &ConnectionUrl) -> anyhow::Result<()> {
    outbox::migrate(url).await?;
    let migrator = sqlx::migrate!("../schema/postgres/migrations");
    postgres_pool::migrate(url, migrator, "schema_requirement").await
}
