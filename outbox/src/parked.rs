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

/// A parked event without its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its place in the ledger.
    pub id: i64,
    pub event_id: Uuid,
    pub aggregate_type: String,
    pub aggregate_id: String,
    pub event_type: String,
    /// The aggregate's own version, if it has one.
    pub version: Option<i64>,
    pub created_at: DateTime<Utc>,
    pub reason: String,
    /// How often it was tried; 0 if it has no route.
    pub attempts: i32,
    pub parked_at: DateTime<Utc>,
}

/// What to do with a parked event that an operator retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Append it to the outbox again.
    Requeue,
    /// Delete it: a later event of its aggregate replaces it.
    Supersede,
    /// Keep it parked: its aggregate has later events, which may not replace it.
    Refuse,
}

/// What became of a parked event that an operator retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retried {
    /// It is in the outbox again.
    Requeued,
    /// A later event of its aggregate replaces it: nothing is left to publish.
    Superseded,
    /// It is still parked: its aggregate has later events.
    Refused,
    /// There is no parked event with this id.
    NotParked,
}

/// Sets an event of the ledger aside that was refused. The `traceparent` of what created it, if it is
/// known.
pub(crate) async fn park(
    db: impl PgExecutor<'_>,
    id: i64,
    reason: &str,
    attempts: i32,
) -> sqlx::Result<Option<String>> {
    let traceparent = sqlx::query_scalar!(
        r"
        insert into outbox.parked (id, event_id, aggregate_type, aggregate_id, event_type, version,
                                   payload, headers, created_at, reason, attempts)
        select id, event_id, aggregate_type, aggregate_id, event_type, version,
               payload, headers, created_at, $2, $3
        from outbox.event where id = $1
        on conflict (id) do update
        set reason = excluded.reason, attempts = excluded.attempts, parked_at = clock_timestamp()
        returning headers ->> 'traceparent' as traceparent
        ",
        id,
        reason,
        attempts,
    )
    .fetch_optional(db)
    .await?;
    Ok(traceparent.flatten())
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

/// Those above the id `after`, the oldest first, at most `limit`.
///
/// # Errors
/// If Postgres can't be reached.
pub async fn page(db: impl PgExecutor<'_>, after: i64, limit: u16) -> sqlx::Result<Vec<Summary>> {
    sqlx::query_as!(
        Summary,
        r"
        select id, event_id, aggregate_type, aggregate_id, event_type, version, created_at, reason,
               attempts, parked_at
        from outbox.parked where id > $1 order by id limit $2
        ",
        after,
        i64::from(limit),
    )
    .fetch_all(db)
    .await
}

/// # Errors
/// If Postgres can't be reached.
pub async fn find_by_event_id(
    db: impl PgExecutor<'_>,
    event_id: Uuid,
) -> sqlx::Result<Option<Summary>> {
    sqlx::query_as!(
        Summary,
        r"
        select id, event_id, aggregate_type, aggregate_id, event_type, version, created_at, reason,
               attempts, parked_at
        from outbox.parked where event_id = $1 order by id limit 1
        ",
        event_id,
    )
    .fetch_optional(db)
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

/// Appends a parked event to the outbox again, under the same event id, if `decide` says so. `decide`
/// runs in the same transaction. It should take the lock that orders the aggregate's events (a row
/// lock, say), so that no producer appends a later event before the transaction ends.
///
/// # Errors
/// If Postgres can't be reached, or `decide` fails.
pub async fn retry(
    pool: &Pool,
    id: i64,
    decide: impl AsyncFnOnce(&mut Connection, &Parked) -> sqlx::Result<Decision>,
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
    let retried = match decide(&mut transaction, &parked).await? {
        Decision::Refuse => return Ok(Retried::Refused),
        Decision::Supersede => Retried::Superseded,
        Decision::Requeue => {
            requeue(&mut *transaction, id).await?;
            Retried::Requeued
        }
    };
    discard(&mut *transaction, id).await?;
    transaction.commit().await?;
    Ok(retried)
}

async fn requeue(db: impl PgExecutor<'_>, id: i64) -> sqlx::Result<()> {
    sqlx::query!(
        r"
        insert into outbox.event (event_id, aggregate_type, aggregate_id, event_type, version,
                                  payload, headers)
        select event_id, aggregate_type, aggregate_id, event_type, version, payload, headers
        from outbox.parked where id = $1
        ",
        id,
    )
    .execute(db)
    .await
    .map(drop)
}

/// For [`retry`], where nothing is known of the aggregate but its events: refuses an event if its
/// aggregate has later ones.
///
/// Takes the advisory lock that the README recommends to producers of aggregates without a row.
/// Other retries wait for it as well. Producers that lock a row instead are not held up: an event
/// that one of them has not committed yet is not seen.
///
/// # Errors
/// If Postgres can't be reached, or the ledger is too large to be read in time.
pub async fn refuse_out_of_order(db: &mut Connection, parked: &Parked) -> sqlx::Result<Decision> {
    // By a statement of its own: the next one then sees what was committed meanwhile.
    sqlx::query!(
        "select pg_advisory_xact_lock(hashtextextended($1::text || '/' || $2::text, 0))",
        parked.aggregate_type,
        parked.aggregate_id,
    )
    .execute(&mut *db)
    .await?;
    Ok(match has_later_events(db, parked).await? {
        true => Decision::Refuse,
        false => Decision::Requeue,
    })
}

/// Whether the aggregate of this parked event has later events, other than parked ones; also true if
/// later events may have been dropped from the ledger. Events that were retried count by their first
/// place in the ledger, and discarded ones count as published. Reads the whole ledger.
async fn has_later_events(db: &mut Connection, parked: &Parked) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        with event as (
            select event_id, min(id) as first_id from outbox.event
            where aggregate_type = $3 and aggregate_id = $4
            group by event_id
        )
        select $1 < (select ledger_from from outbox.ledger) or exists (
            select from event
            where first_id > coalesce((select first_id from event where event_id = $2), $1)
                and event_id not in (select event_id from outbox.parked)
        ) as "has_later!"
        "#,
        parked.id,
        parked.event_id,
        parked.aggregate_type,
        parked.aggregate_id,
    )
    .fetch_one(db)
    .await
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
