//! Events that `JetStream` refuses for what they are: set aside until an operator decides.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use uuid::Uuid;

use crate::database::Pool;

/// A parked event and why it is.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct Parked {
    pub(crate) id: i64,
    pub(crate) event_id: Uuid,
    pub(crate) r#type: String,
    pub(crate) user_id: i64,
    pub(crate) version: i64,
    pub(crate) payload: String,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) reason: String,
    pub(crate) attempts: i32,
    pub(crate) parked_at: DateTime<Utc>,
}

/// What became of a parked event that was to be published after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retried {
    /// The user's present state is in the outbox again, in its place.
    Requeued,
    /// The user was changed or deleted since, by an event of its own: nothing is left to publish.
    Superseded,
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
pub(crate) async fn list_parked(db: impl PgExecutor<'_>, limit: u16) -> sqlx::Result<Vec<Parked>> {
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

pub(crate) async fn find_parked(db: impl PgExecutor<'_>, id: i64) -> sqlx::Result<Option<Parked>> {
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

/// Puts a parked event back into the outbox, unless a later event of its user has made it
/// pointless. The new entry comes after all earlier ones of the user: order is kept.
pub(crate) async fn retry(pool: &Pool, id: i64) -> sqlx::Result<Retried> {
    let mut transaction = pool.begin().await?;
    let parked: Option<(i64, i64, String)> =
        sqlx::query_as("select user_id, version, type from outbox_parked where id = $1 for update")
            .bind(id)
            .fetch_optional(&mut *transaction)
            .await?;
    let Some((user_id, version, r#type)) = parked else {
        return Ok(Retried::NotParked);
    };
    // The row lock keeps the event its place between the user's changes, as with any writer.
    let present: Option<i64> =
        sqlx::query_scalar("select version from users where id = $1 for share")
            .bind(user_id)
            .fetch_optional(&mut *transaction)
            .await?;
    let is_latest = match present {
        Some(present) => present == version,
        None => r#type == "user_deleted",
    };
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
pub(crate) async fn discard(db: impl PgExecutor<'_>, id: i64) -> sqlx::Result<bool> {
    let discarded = sqlx::query("delete from outbox_parked where id = $1")
        .bind(id)
        .execute(db)
        .await?;
    Ok(discarded.rows_affected() > 0)
}
