//! What tests of this crate work on: the schema, and aggregates with a version.

use std::time::Duration;

use postgres_pool::Pool;
use sqlx::PgPool;
use testkit::postgres::Database;

pub(crate) async fn create_database() -> Database {
    let database = Database::create().await;
    let url = database.url.parse().expect("a URL");
    crate::migrate(&url).await.expect("a schema");
    let account = "create table account (
        id bigint generated always as identity primary key, version bigint not null default 0
    )";
    sqlx::raw_sql(account)
        .execute(&database.pool)
        .await
        .expect("a table");
    database
}

/// A pool of one connection, and the identity of the database that it leads to.
pub(crate) async fn pool_of(database: &Database) -> (Pool, String) {
    let url = database.url.parse().expect("a URL");
    let pool = postgres_pool::pool(&url, 1, Duration::from_secs(1)).expect("a pool");
    let identity = sqlx::query_scalar("select outbox.database_identity()")
        .fetch_one(&database.pool)
        .await
        .expect("an identity");
    (pool, identity)
}

/// An aggregate without an event of its own.
pub(crate) async fn new_account(pool: &PgPool) -> i64 {
    sqlx::query_scalar("insert into account default values returning id")
        .fetch_one(pool)
        .await
        .expect("an account")
}
