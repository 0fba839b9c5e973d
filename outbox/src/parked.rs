//! Events that `JetStream` refuses for what they are: set aside until an operator decides.

use chrono::{DateTime, Utc};
use postgres_pool::{Connection, Pool};
use sqlx::PgExecutor;
use uuid::Uuid;

/// A parked event and why it is.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Parked {
    pub id: i64,
    pub event_id: Uuid,
    pub r#type: String,
    pub user_id: i64,
    pub version: i64,
    pub payload: String,
    pub created_at: DateTime<Utc>,
    pub reason: String,
    pub attempts: i32,
    pub parked_at: DateTime<Utc>,
}

/// What became of a parked event that was to be published after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retried {
    /// It is in the outbox again.
    Requeued,
    /// A later event of its aggregate was written since: nothing is left to publish.
    Superseded,
    /// There is no parked event with this id.
    NotParked,
}

/// Sets an event of the ledger aside.
pub(crate) async fn park(
    db: impl PgExecutor<'_>,
    id: i64,
    reason: &str,
    attempts: i32,
) -> sqlx::Result<()> {
    sqlx::query(
        r"
        insert into outbox_parked (id, event_id, type, user_id, version, payload, traceparent,
                                   created_at, reason, attempts)
        select id, event_id, type, user_id, version, payload, traceparent, created_at, $2, $3
        from outbox where id = $1
        on conflict (id) do update
        set reason = excluded.reason, attempts = excluded.attempts, parked_at = clock_timestamp()
        ",
    )
    .bind(id)
    .bind(reason)
    .bind(attempts)
    .execute(db)
    .await?;
    Ok(())
}

/// The oldest first, at most `limit`.
pub async fn list(db: impl PgExecutor<'_>, limit: u16) -> sqlx::Result<Vec<Parked>> {
    sqlx::query_as(
        r"
        select id, event_id, type, user_id, version, payload::text as payload, created_at,
               reason, attempts, parked_at
        from outbox_parked order by id limit $1
        ",
    )
    .bind(i64::from(limit))
    .fetch_all(db)
    .await
}

pub async fn find(db: impl PgExecutor<'_>, id: i64) -> sqlx::Result<Option<Parked>> {
    sqlx::query_as(
        r"
        select id, event_id, type, user_id, version, payload::text as payload, created_at,
               reason, attempts, parked_at
        from outbox_parked where id = $1
        ",
    )
    .bind(id)
    .fetch_optional(db)
    .await
}

/// Puts a parked event back into the outbox, unless a later event of its aggregate has made it
/// pointless: that is what `is_latest` tells, in the same transaction. It is to hold whatever gives
/// the aggregate's events their order (a row lock, say), so that the new entry keeps its place
/// between them.
///
/// # Errors
/// If Postgres can't be reached, or `is_latest` fails.
pub async fn retry(
    pool: &Pool,
    id: i64,
    is_latest: impl AsyncFnOnce(&mut Connection, &Parked) -> sqlx::Result<bool>,
) -> sqlx::Result<Retried> {
    let mut transaction = pool.begin().await?;
    let parked: Option<Parked> = sqlx::query_as(
        r"
        select id, event_id, type, user_id, version, payload::text as payload, created_at,
               reason, attempts, parked_at
        from outbox_parked where id = $1 for update
        ",
    )
    .bind(id)
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(parked) = parked else {
        return Ok(Retried::NotParked);
    };
    let is_latest = is_latest(&mut transaction, &parked).await?;
    if is_latest {
        sqlx::query(
            r"
            insert into outbox (event_id, type, user_id, version, payload, traceparent)
            select $2, type, user_id, version, payload, traceparent
            from outbox_parked where id = $1
            ",
        )
        .bind(id)
        .bind(Uuid::now_v7())
        .execute(&mut *transaction)
        .await?;
    }
    discard(&mut *transaction, id).await?;
    transaction.commit().await?;
    Ok(if is_latest {
        Retried::Requeued
    } else {
        Retried::Superseded
    })
}

/// Forgets a parked event; whether there was one.
pub async fn discard(db: impl PgExecutor<'_>, id: i64) -> sqlx::Result<bool> {
    let discarded = sqlx::query("delete from outbox_parked where id = $1")
        .bind(id)
        .execute(db)
        .await?;
    Ok(discarded.rows_affected() > 0)
}
