//! How the outbox is doing: what `outbox-relay status` shows.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use crate::inspect::MAX_COUNTED;

/// How far one stream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamStatus {
    pub stream: String,
    /// Whose events go to it; `None`: all that no other stream names.
    pub aggregate_types: Option<Vec<String>>,
    /// Events that wait to be published, among the next of the ledger up to the limit.
    pub pending: i64,
    /// When the oldest of them was written.
    pub oldest_pending_at: Option<DateTime<Utc>>,
    /// The last sequence that the stream acknowledged; 0 before the first.
    pub stream_sequence: i64,
    /// Ranges of ids that are awaited: of open transactions, or to be published again.
    pub open_gaps: i32,
    /// Whether the present or last relay publishes to it. If not, its cursor keeps events from being
    /// dropped for as long as it is there.
    pub is_configured: bool,
    /// Since when it has been unknown whether consumers have events that the database has lost.
    pub unreconciled_since: Option<DateTime<Utc>>,
    /// Aggregates with such events that could not be restated.
    pub orphans: i64,
}

/// The relay, and what waits for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayStatus {
    /// Who holds the lease, or held it last.
    pub owner: Option<String>,
    /// Grows with every change of the owner.
    pub epoch: i64,
    /// Whether a relay holds the lease now.
    pub is_active: bool,
    /// Events that were set aside; counting ends above [`MAX_COUNTED`].
    pub parked: i64,
}

/// All streams that a relay ever published to, by name. Pending events are counted among the next
/// `limit` of the ledger, and orphans up to `limit`: so each stream costs a bounded number of lookups in
/// the order of ids, however far it is behind.
///
/// # Errors
/// If Postgres can't be reached.
pub async fn streams(db: impl PgExecutor<'_>, limit: i64) -> sqlx::Result<Vec<StreamStatus>> {
    sqlx::query_as!(
        StreamStatus,
        r#"
        select cursor.stream, aggregate_types, stream_sequence, cardinality(gaps) as "open_gaps!",
               epoch = (select epoch from outbox.lease) as "is_configured!",
               pending.events as "pending!", pending.oldest_at as oldest_pending_at,
               unreconciled_since, (
                   select count(*) from (
                       select from outbox.orphan
                       where orphan.stream = cursor.stream and restated_at is null limit $1
                   ) as orphan
               ) as "orphans!"
        from outbox.cursor
        cross join lateral (
            select count(*) as events, min(created_at) as oldest_at
            from (
                select late.* from unnest(gaps) as gap
                cross join lateral (
                    select aggregate_type, created_at from outbox.event
                    where id >= lower(gap) and id < upper(gap) order by id limit $1
                ) as late
                union all
                (
                    select aggregate_type, created_at from outbox.event
                    where id > last_id order by id limit $1
                )
                limit $1
            ) as next
            where case when aggregate_types is null
                then aggregate_type <> all (
                    array(select unnest(other.aggregate_types) from outbox.cursor as other)
                )
                else aggregate_type = any (aggregate_types)
            end
        ) as pending
        order by cursor.stream
        "#,
        limit,
    )
    .fetch_all(db)
    .await
}

/// # Errors
/// If Postgres can't be reached.
pub async fn relay(db: impl PgExecutor<'_>) -> sqlx::Result<RelayStatus> {
    sqlx::query_as!(
        RelayStatus,
        r#"
        select owner, epoch, expires_at > clock_timestamp() as "is_active!",
               (select count(*) from (select from outbox.parked limit $1) as parked) as "parked!"
        from outbox.lease
        "#,
        MAX_COUNTED + 1,
    )
    .fetch_one(db)
    .await
}

/// By Postgres' clock, as all times in the outbox are.
///
/// # Errors
/// If Postgres can't be reached.
pub async fn now(db: impl PgExecutor<'_>) -> sqlx::Result<DateTime<Utc>> {
    sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#)
        .fetch_one(db)
        .await
}
