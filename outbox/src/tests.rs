//! What tests of this crate work on: the schema, and aggregates with a version.

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

/// An aggregate without an event of its own.
pub(crate) async fn new_account(pool: &PgPool) -> i64 {
    sqlx::query_scalar("insert into account default values returning id")
        .fetch_one(pool)
        .await
        .expect("an account")
}
