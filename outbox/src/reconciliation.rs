//! What operators see of a database that lost its most recent writes, and what they decide.

use chrono::{DateTime, Utc};
use postgres_pool::Pool;
use service_runtime::health::Check;
use sqlx::PgExecutor;

/// An aggregate of which a stream has messages that the ledger does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    pub stream: String,
    pub aggregate_type: String,
    pub aggregate_id: String,
    /// The greatest of the messages, if they have one.
    pub version: Option<i64>,
    pub messages: i64,
    pub found_at: DateTime<Utc>,
    /// When an event with its present state was appended.
    pub restated_at: Option<DateTime<Utc>>,
    /// Why it could not be restated.
    pub error: Option<String>,
}

/// Those that are not restated first, at most `limit`.
///
/// # Errors
/// If Postgres can't be reached.
pub async fn orphans(db: impl PgExecutor<'_>, limit: u16) -> sqlx::Result<Vec<Orphan>> {
    sqlx::query_as!(
        Orphan,
        r"
        select stream, aggregate_type, aggregate_id, version, messages, found_at, restated_at, error
        from outbox.orphan
        order by restated_at is not null, stream, aggregate_type, aggregate_id limit $1
        ",
        i64::from(limit),
    )
    .fetch_all(db)
    .await
}

/// Has the functions be asked again for what they failed for or left out; for how many.
///
/// # Errors
/// If Postgres can't be reached.
pub async fn ask_again(db: impl PgExecutor<'_>) -> sqlx::Result<u64> {
    let asked = sqlx::query!(
        r"
        update outbox.orphan set error = null, retry_at = null
        where restated_at is null and error is not null
        "
    )
    .execute(db)
    .await?;
    Ok(asked.rows_affected())
}

/// The streams that relays have published to.
///
/// # Errors
/// If Postgres can't be reached.
pub async fn streams(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!("select stream from outbox.cursor order by stream")
        .fetch_all(db)
        .await
}

/// The copies of the consumers were compared and repaired. Forgets the orphans that were not restated;
/// how many.
///
/// # Errors
/// If Postgres can't be reached.
pub async fn reconciled(db: impl PgExecutor<'_>, stream: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"
        with certain as (
            update outbox.cursor set unreconciled_since = null where stream = $1
        ), forgotten as (
            delete from outbox.orphan where stream = $1 and restated_at is null returning stream
        )
        select count(*) as "orphans!" from forgotten
        "#,
        stream,
    )
    .fetch_one(db)
    .await
}

/// The relay takes the stream over from another ledger the next time that it tries.
///
/// # Errors
/// If Postgres can't be reached.
pub async fn adopt(db: impl PgExecutor<'_>, stream: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "update outbox.cursor set adopts = true where stream = $1",
        stream,
    )
    .execute(db)
    .await
    .map(drop)
}

/// Fails while it is unknown whether a stream has, or had, events that the database has lost, and while
/// aggregates of such events wait to be restated.
#[must_use]
pub fn check(pool: Pool) -> Check {
    Check::new("reconciliation", move || {
        let pool = pool.clone();
        async move {
            let streams = unreconciled(&pool).await?;
            anyhow::ensure!(
                streams.is_empty(),
                "consumers may have events that the database has lost: compare their copies, then run \
                 `outbox-relay reconciled` for {}",
                streams.join(", ")
            );
            let waiting = waiting(&pool).await?;
            anyhow::ensure!(
                waiting == 0,
                "{waiting} aggregates of events that the database has lost wait to be restated: \
                 `outbox-relay orphans` lists them"
            );
            Ok(())
        }
    })
}

async fn unreconciled(db: impl PgExecutor<'_>) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        "select stream from outbox.cursor where unreconciled_since is not null order by stream"
    )
    .fetch_all(db)
    .await
}

/// Those that their function leaves out; they are asked for again.
async fn waiting(db: impl PgExecutor<'_>) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"
        select count(*) as "aggregates!" from outbox.orphan
        where restated_at is null and retry_at is not null
        "#
    )
    .fetch_one(db)
    .await
}
