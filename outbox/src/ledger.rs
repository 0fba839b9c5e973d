//! The outbox: an insert-only ledger of events, in the order of their ids.

use std::ops::Range;

use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, Row, postgres::types::PgRange};
use uuid::Uuid;

/// One entry of the ledger.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct OutboxEvent {
    pub id: i64,
    pub event_id: Uuid,
    pub r#type: String,
    pub user_id: i64,
    /// The user's state as JSON, passed on as it is.
    pub payload: String,
    pub traceparent: Option<String>,
    pub created_at: DateTime<Utc>,
}

/// The events above `last_id` that are committed, in order, at most `limit` of them. Ids that are
/// missing between them belong to transactions that are still open or were rolled back.
pub(crate) async fn read_after(
    db: impl PgExecutor<'_>,
    last_id: i64,
    limit: u16,
) -> sqlx::Result<Vec<OutboxEvent>> {
    sqlx::query_as(
        r"
        select id, event_id, type, user_id, payload::text as payload, traceparent, created_at
        from outbox where id > $1 order by id limit $2
        ",
    )
    .bind(last_id)
    .bind(i64::from(limit))
    .fetch_all(db)
    .await
}

/// The first events that wait to be published, in order, at most `limit`.
pub async fn pending(db: impl PgExecutor<'_>, limit: u16) -> sqlx::Result<Vec<OutboxEvent>> {
    sqlx::query_as(
        r"
        select id, event_id, type, user_id, payload::text as payload, traceparent, created_at
        from (
            select late.* from relay_cursor
            cross join unnest(gaps) as gap
            cross join lateral (
                select * from outbox where id >= lower(gap) and id < upper(gap)
                order by id limit $1
            ) as late
            union all
            select new.* from relay_cursor
            cross join lateral (
                select * from outbox where id > last_id order by id limit $1
            ) as new
        ) as pending
        order by id limit $1
        ",
    )
    .bind(i64::from(limit))
    .fetch_all(db)
    .await
}

/// What the relay has before it.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
pub struct Backlog {
    /// Events that wait to be published; counting ends at the limit.
    pub events: i64,
    /// Whether a relay holds the lease.
    pub has_relay: bool,
}

/// Counts up to `limit` events: to count all of a large backlog takes too long.
pub async fn backlog(db: impl PgExecutor<'_>, limit: i64) -> sqlx::Result<Backlog> {
    sqlx::query_as(
        r"
        select expires_at > clock_timestamp() as has_relay,
               (select count(*) from (select from outbox_pending limit $1) as pending) as events
        from relay_cursor
        ",
    )
    .bind(limit)
    .fetch_one(db)
    .await
}

/// One event of the ledger, published or not.
pub async fn find(db: impl PgExecutor<'_>, id: i64) -> sqlx::Result<Option<OutboxEvent>> {
    sqlx::query_as(
        r"
        select id, event_id, type, user_id, payload::text as payload, traceparent, created_at
        from outbox where id = $1
        ",
    )
    .bind(id)
    .fetch_optional(db)
    .await
}

const READ_GAPS: &str = r"
    select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as horizon, filled.*
    from (select) as always
    left join (
        select found.*
        from unnest($1::int8range[]) with ordinality as gap (ids, number)
        cross join lateral (
            select id, event_id, type, user_id, payload::text as payload, traceparent, created_at
            from outbox where id >= lower(ids) and id < upper(ids)
            order by id limit $2
        ) as found
        order by number, id limit $2
    ) as filled on true
";

/// What one snapshot shows of ids that were missing before.
#[derive(Debug)]
pub(crate) struct Filled {
    /// Every transaction with an xid below this one had ended when the snapshot was taken.
    pub horizon: i64,
    /// The events found, in order.
    pub events: Vec<OutboxEvent>,
}

/// The events within `gaps` that are committed by now, in order, at most `limit` of them. Horizon
/// and events come from one statement, hence from one snapshot.
///
/// Each gap is looked up by itself: a join with a limit would merge all partitions in the order of
/// their ids and read the whole ledger for an id that is missing. `gaps` are in order and do not
/// overlap, so their numbers order the events, and reading ends at the limit.
pub(crate) async fn read_gaps(
    db: impl PgExecutor<'_>,
    gaps: &[Range<i64>],
    limit: u16,
) -> sqlx::Result<Filled> {
    let rows = sqlx::query(READ_GAPS)
        .bind(gaps.iter().cloned().map(PgRange::from).collect::<Vec<_>>())
        .bind(i64::from(limit))
        .fetch_all(db)
        .await?;

    let horizon = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let horizon = horizon.try_get("horizon")?;
    let mut events = Vec::with_capacity(rows.len());
    for row in &rows {
        if row.try_get::<Option<i64>, _>("id")?.is_some() {
            events.push(sqlx::FromRow::from_row(row)?);
        }
    }
    Ok(Filled { horizon, events })
}

/// An xid above that of every transaction that has drawn an event's id so far.
pub(crate) async fn bound(db: impl PgExecutor<'_>) -> sqlx::Result<i64> {
    sqlx::query_scalar("select pg_current_xact_id()::text::bigint")
        .fetch_one(db)
        .await
}

#[cfg(test)]
mod tests;
