//! Finding an event in the ledger by its event id, for which there is no index: it would cost every
//! write. Ids of events of version 7 tell when they were made, and the ledger is nearly in the order
//! of time.

use chrono::{DateTime, Utc};
use postgres_pool::Pool;
use sqlx::PgExecutor;
use uuid::Uuid;

use crate::ledger::drawn_id;

/// So many events before and after the time that the id tells are read: first a few, then as many as
/// are there if the clock of the producer differs.
const NEAR: [i64; 2] = [1_000, 50_000];
/// The end of the ledger, for ids that tell no time.
const NEWEST: i64 = 100_000;

/// An event without its payload.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) id: i64,
    pub(super) event_id: Uuid,
    pub(super) aggregate_type: String,
    pub(super) aggregate_id: String,
    pub(super) event_type: String,
    pub(super) version: Option<i64>,
    pub(super) created_at: DateTime<Utc>,
}

/// What the relay has done with an event.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    /// Where it goes.
    pub(super) stream: String,
    /// Whether the cursor is past it.
    pub(super) is_done: bool,
    pub(super) is_superseded: bool,
    /// The stream had this sequence before the event was published, if that is known.
    pub(super) after_sequence: Option<i64>,
}

pub(super) async fn find(pool: &Pool, event_id: Uuid) -> sqlx::Result<Option<Entry>> {
    if let Some(time) = time_of(event_id) {
        let middle = first_since(pool, time).await?;
        for distance in NEAR {
            let (from, to) = (middle - distance, middle + distance);
            if let Some(found) = within(pool, from, to, event_id).await? {
                return Ok(Some(found));
            }
        }
    }
    let end = drawn_id(pool).await? + 1;
    within(pool, end - NEWEST, end, event_id).await
}

/// The newest entry of this event behind that one, at the end of the ledger.
pub(super) async fn find_after(
    pool: &Pool,
    id: i64,
    event_id: Uuid,
) -> sqlx::Result<Option<Entry>> {
    let end = drawn_id(pool).await? + 1;
    within(pool, (id + 1).max(end - NEWEST), end, event_id).await
}

/// When an id of version 7 was made.
fn time_of(event_id: Uuid) -> Option<DateTime<Utc>> {
    let (seconds, nanoseconds) = (event_id.get_version_num() == 7)
        .then(|| event_id.get_timestamp())??
        .to_unix();
    DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanoseconds)
}

/// The id of the first event that was written then or later, by bisection: a few dozen lookups.
async fn first_since(db: impl PgExecutor<'_>, time: DateTime<Utc>) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"
        with recursive search (low, high, steps) as (
            select ledger_from, coalesce(pg_sequence_last_value('outbox.event_id_seq'), 0) + 1, 0
            from outbox.ledger
            union all
            select case when probe.created_at < $1 then probe.id + 1 else low end,
                   case when probe.created_at < $1 then high else (low + high) / 2 end,
                   steps + 1
            from search
            left join lateral (
                select id, created_at from outbox.event
                where id >= (low + high) / 2 and id < high
                order by id limit 1
            ) as probe on true
            where low < high and steps < 64
        )
        select low as "id!" from search order by steps desc limit 1
        "#,
        time,
    )
    .fetch_one(db)
    .await
}

/// The newest event of this event id with an id from `from` (inclusive) to `to` (exclusive), all of
/// which are read.
async fn within(
    db: impl PgExecutor<'_>,
    from: i64,
    to: i64,
    event_id: Uuid,
) -> sqlx::Result<Option<Entry>> {
    sqlx::query_as!(
        Entry,
        r"
        select id, event_id, aggregate_type, aggregate_id, event_type, version, created_at
        from outbox.event where id >= $1 and id < $2 and event_id = $3
        order by id desc limit 1
        ",
        from,
        to,
        event_id,
    )
    .fetch_optional(db)
    .await
}

/// `None` if no relay has ever had a route for it.
pub(super) async fn delivery(
    db: impl PgExecutor<'_>,
    entry: &Entry,
) -> sqlx::Result<Option<Delivery>> {
    sqlx::query_as!(
        Delivery,
        r#"
        select cursor.stream,
               $1 <= last_id and not exists (
                   select from unnest(gaps) as gap where $1 >= lower(gap) and $1 < upper(gap)
               ) as "is_done!",
               exists (
                   select from outbox.orphan
                   where orphan.stream = cursor.stream and aggregate_type = $2 and aggregate_id = $3
                       and $4::bigint <= orphan.version and $1 <= superseded_through
               ) as "is_superseded!",
               (
                   select checkpoint.stream_sequence from outbox.checkpoint
                   where checkpoint.stream = cursor.stream and checkpoint.last_id < $1
                   order by checkpoint.stream_sequence desc limit 1
               ) as after_sequence
        from outbox.cursor
        where $2 = any (aggregate_types) or aggregate_types is null and $2 <> all (array(
            select unnest(other.aggregate_types) from outbox.cursor as other
        ))
        order by cursor.stream limit 1
        "#,
        entry.id,
        entry.aggregate_type,
        entry.aggregate_id,
        entry.version,
    )
    .fetch_optional(db)
    .await
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use uuid::Uuid;

    use super::time_of;

    #[test]
    fn only_ids_of_version_7_tell_a_time() {
        let age = Utc::now() - time_of(Uuid::now_v7()).expect("a time");
        assert!(age.num_seconds().abs() < 60, "{age}");
        assert_eq!(time_of(Uuid::from_u128(7)), None);
    }
}
