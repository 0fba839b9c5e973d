//! The schema that tests of this crate work on.

pub(crate) async fn create(url: &str) {
    let url = url.parse().expect("a URL");
    let migrator = sqlx::migrate!("../schema/postgres/migrations");
    let migrated = postgres_pool::migrate(&url, migrator, "schema_requirement").await;
    migrated.expect("a schema");
}
