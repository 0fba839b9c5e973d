//! Events that can't be published for what they are: set aside until an operator decides.

use chrono::{DateTime, Utc};
use postgres_pool::{Connection, Pool};
use sqlx::PgExecutor;
use uuid::Uuid;

/// A parked event and why it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// Its place in the ledger.
    pub id: i64,
    pub event_id: Uuid,
    pub aggregate_type: String,
    pub aggregate_id: String,
    pub event_type: String,
    /// The aggregate's own version, if it has one.
    pub version: Option<i64>,
    /// JSON, as the producer wrote it.
    pub payload: String,
    pub created_at: DateTime<Utc>,
    pub reason: String,
    /// How often it was tried; 0 if it has no route.
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

/// Sets an event of the ledger aside that was refused.
pub(crate) async fn park(
    db: impl PgExecutor<'_>,
    id: i64,
    reason: &str,
    attempts: i32,
) -> sqlx::Result<()> {
    sqlx::query!(
        r"
        insert into outbox.parked (id, event_id, aggregate_type, aggregate_id, event_type, version,
                                   payload, headers, created_at, reason, attempts)
        select id, event_id, aggregate_type, aggregate_id, event_type, version,
               payload, headers, created_at, $2, $3
        from outbox.event where id = $1
        on conflict (id) do update
        set reason = excluded.reason, attempts = excluded.attempts, parked_at = clock_timestamp()
        ",
        id,
        reason,
        attempts,
    )
    .execute(db)
    .await
    .map(drop)
}

/// Sets events aside whose aggregate types have no route; false if the epoch is over.
pub(crate) async fn park_unrouted(
    db: impl PgExecutor<'_>,
    ids: &[i64],
    stream: &str,
    epoch: i64,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        with parked as (
            insert into outbox.parked (id, event_id, aggregate_type, aggregate_id, event_type,
                                       version, payload, headers, created_at, reason, attempts)
            select event.id, event_id, aggregate_type, aggregate_id, event_type, version,
                   payload, headers, created_at, 'no route for the aggregate type', 0
            from unnest($1::bigint[]) as wanted (id)
            cross join lateral (select * from outbox.event where id = wanted.id offset 0) as event
            where exists (select from outbox.cursor where stream = $2 and epoch = $3)
            on conflict (id) do nothing
        )
        select exists (select from outbox.cursor where stream = $2 and epoch = $3) as "is_held!"
        "#,
        ids,
        stream,
        epoch,
    )
    .fetch_one(db)
    .await
}

/// The oldest first, at most `limit`.
///
/// # Errors
/// If Postgres can't be reached.
pub async fn list(db: impl PgExecutor<'_>, limit: u16) -> sqlx::Result<Vec<Parked>> {
    sqlx::query_as!(
        Parked,
        r#"
        select id, event_id, aggregate_type, aggregate_id, event_type, version,
               payload::text as "payload!", created_at, reason, attempts, parked_at
        from outbox.parked order by id limit $1
        "#,
        i64::from(limit),
    )
    .fetch_all(db)
    .await
}

/// # Errors
/// If Postgres can't be reached.
pub async fn find(db: impl PgExecutor<'_>, id: i64) -> sqlx::Result<Option<Parked>> {
    sqlx::query_as!(
        Parked,
        r#"
        select id, event_id, aggregate_type, aggregate_id, event_type, version,
               payload::text as "payload!", created_at, reason, attempts, parked_at
        from outbox.parked where id = $1
        "#,
        id,
    )
    .fetch_optional(db)
    .await
}

/// Appends a parked event to the outbox once more, unless a later event of its aggregate has made it
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
    let parked = sqlx::query_as!(
        Parked,
        r#"
        select id, event_id, aggregate_type, aggregate_id, event_type, version,
               payload::text as "payload!", created_at, reason, attempts, parked_at
        from outbox.parked where id = $1 for update
        "#,
        id,
    )
    .fetch_optional(&mut *transaction)
    .await?;
    let Some(parked) = parked else {
        return Ok(Retried::NotParked);
    };
    let is_latest = is_latest(&mut transaction, &parked).await?;
    if is_latest {
        sqlx::query!(
            r"
            insert into outbox.event (aggregate_type, aggregate_id, event_type, version, payload, headers)
            select aggregate_type, aggregate_id, event_type, version, payload, headers
            from outbox.parked where id = $1
            ",
            id,
        )
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
///
/// # Errors
/// If Postgres can't be reached.
pub async fn discard(db: impl PgExecutor<'_>, id: i64) -> sqlx::Result<bool> {
    let discarded = sqlx::query!("delete from outbox.parked where id = $1", id)
        .execute(db)
        .await?;
    Ok(discarded.rows_affected() > 0)
}

/// Whether the outbox has later events of this parked event's aggregate. Reads all events that were
/// written since.
///
/// # Errors
/// If Postgres can't be reached, or there are too many to read in time.
pub async fn has_later_events(db: impl PgExecutor<'_>, id: i64) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (
            select from outbox.parked
            join outbox.event using (aggregate_type, aggregate_id)
            where parked.id = $1 and event.id > $1
        ) as "has_later!"
        "#,
        id,
    )
    .fetch_one(db)
    .await
}
