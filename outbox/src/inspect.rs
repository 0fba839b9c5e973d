//! What operators and tools look at: events, and what is pending.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use uuid::Uuid;

/// One event of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEvent {
    /// Its place in the ledger.
    pub id: i64,
    /// The id of its message.
    pub event_id: Uuid,
    pub aggregate_type: String,
    pub aggregate_id: String,
    pub event_type: String,
    /// The aggregate's own version, if it has one.
    pub version: Option<i64>,
    /// JSON, as the producer wrote it.
    pub payload: String,
    /// A JSON object of strings.
    pub headers: Option<String>,
    pub created_at: DateTime<Utc>,
}

/// People are told of so many pending events at most: to count all of a large backlog takes too long.
pub const MAX_COUNTED: i64 = 100_000;

/// A number of events that were counted up to [`MAX_COUNTED`] + 1, for people.
#[must_use]
pub fn counted(events: i64) -> String {
    match events {
        ..=MAX_COUNTED => events.to_string(),
        _ => format!("more than {MAX_COUNTED}"),
    }
}

/// What the relay has before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Events that wait to be published; counting ends at the limit.
    pub events: i64,
    /// Whether a relay holds the lease.
    pub has_relay: bool,
}

/// Counts up to `limit` events.
///
/// # Errors
/// If Postgres can't be reached.
pub async fn backlog(db: impl PgExecutor<'_>, limit: i64) -> sqlx::Result<Backlog> {
    sqlx::query_as!(
        Backlog,
        r#"
        select expires_at > clock_timestamp() as "has_relay!",
               (select count(*) from (select from outbox.pending limit $1) as pending) as "events!"
        from outbox.lease
        "#,
        limit,
    )
    .fetch_one(db)
    .await
}

/// The first events that wait to be published, in order, at most `limit`. Not by the view
/// `outbox.pending`, which would read all of them to sort them.
///
/// # Errors
/// If Postgres can't be reached.
pub async fn pending(db: impl PgExecutor<'_>, limit: u16) -> sqlx::Result<Vec<OutboxEvent>> {
    sqlx::query_as!(
        OutboxEvent,
        r#"
        with wanted as (
            select *, case when aggregate_types is null then array(
                select unnest(other.aggregate_types) from outbox.cursor as other
            ) end as others_types
            from outbox.cursor
        )
        select id as "id!", event_id as "event_id!", aggregate_type as "aggregate_type!",
               aggregate_id as "aggregate_id!", event_type as "event_type!", version,
               payload::text as "payload!", headers::text as headers, created_at as "created_at!"
        from (
            select new.* from wanted
            cross join lateral (
                select * from outbox.event
                where id > last_id and (
                    aggregate_type = any (wanted.aggregate_types)
                    or aggregate_type <> all (wanted.others_types)
                )
                order by id limit $1
            ) as new
            union all
            select late.* from wanted
            cross join unnest(gaps) as gap
            cross join lateral (
                select * from outbox.event
                where id >= lower(gap) and id < upper(gap) and (
                    aggregate_type = any (wanted.aggregate_types)
                    or aggregate_type <> all (wanted.others_types)
                )
                order by id limit $1
            ) as late
            union all
            (
                select * from outbox.event where not exists (select from outbox.cursor)
                order by id limit $1
            )
        ) as pending
        order by id limit $1
        "#,
        i64::from(limit),
    )
    .fetch_all(db)
    .await
}

/// One event of the ledger, published or not.
///
/// # Errors
/// If Postgres can't be reached.
pub async fn find(db: impl PgExecutor<'_>, id: i64) -> sqlx::Result<Option<OutboxEvent>> {
    sqlx::query_as!(
        OutboxEvent,
        r#"
        select id, event_id, aggregate_type, aggregate_id, event_type, version,
               payload::text as "payload!", headers::text as headers, created_at
        from outbox.event where id = $1
        "#,
        id,
    )
    .fetch_optional(db)
    .await
}

/// Removes the cursor of a stream that no relay is configured for any more, so that it no longer
/// keeps events from being dropped; whether there was one. Should a relay be configured for it, the
/// stream is published to again, from the beginning of the ledger.
///
/// # Errors
/// If Postgres can't be reached.
pub async fn forget(db: impl PgExecutor<'_>, stream: &str) -> sqlx::Result<bool> {
    let forgotten = sqlx::query!("delete from outbox.cursor where stream = $1", stream)
        .execute(db)
        .await?;
    Ok(forgotten.rows_affected() > 0)
}
