//! What was found missing, and what became of it.

use std::{
    ops::{Bound, Range, RangeInclusive},
    time::Duration,
};

use postgres_pool::{Connection, Pool};
use sqlx::{PgExecutor, postgres::types::PgRange};

use crate::relay::{look::Beginning, owned::Owned};

/// The end of a range that is not known yet.
pub(super) const NO_END: i64 = i64::MAX;

/// Sequences that are missing, and the events that may have stood there.
#[derive(Debug)]
pub(super) struct Loss {
    /// In order.
    pub(super) missing: Vec<RangeInclusive<i64>>,
    pub(super) ids: Vec<Range<i64>>,
    /// What the cursor had not passed when the events were looked up.
    pub(super) not_passed: Vec<Range<i64>>,
    /// Whether the ledger has them all.
    pub(super) is_complete: bool,
}

impl Loss {
    pub(super) fn messages(&self) -> i64 {
        let ranges = self.missing.iter();
        ranges.map(|it| it.end() - it.start() + 1).sum()
    }
}

pub(super) struct Finished {
    pub(super) messages: i64,
    /// That readers are told of.
    pub(super) ranges: i64,
    pub(super) through: i64,
}

/// False if it has to be looked up again: by the next session, or because the ledger has dropped some of the
/// events meanwhile. What is kept here it does not drop.
pub(super) async fn insert(pool: &Pool, owned: &Owned, loss: &Loss) -> sqlx::Result<bool> {
    let firsts: Vec<_> = loss.missing.iter().map(|it| *it.start()).collect();
    let lasts: Vec<_> = loss.missing.iter().map(|it| *it.end()).collect();
    let ids = loss.ids.iter().chain(&loss.not_passed);
    let ids: Vec<_> = ids.cloned().map(PgRange::from).collect();
    let first_id = loss.ids.iter().map(|ids| ids.start).min();
    let mut transaction = pool.begin().await?;
    let held = sqlx::query!(
        r"
        update outbox.cursor set complete_from = case when $3 then complete_from end
        where stream = $1 and epoch = $2 and session = $5 and outbox.database_identity() = $4
        ",
        owned.stream,
        owned.epoch,
        loss.is_complete,
        owned.identity,
        owned.session,
    )
    .execute(&mut *transaction)
    .await?;
    if held.rows_affected() == 0 {
        return Ok(false);
    }
    let ledger_from = ledger_from(&mut *transaction).await?;
    if first_id.is_some_and(|id| id < ledger_from) {
        return Ok(false);
    }
    // The first of the rows has the events of all.
    sqlx::query!(
        r"
        insert into outbox.stream_loss (stream, first_sequence, last_sequence, ids, is_complete)
        select $1::text, first, last, case number when 1 then $4::int8range[] else '{}' end, $5
        from unnest($2::bigint[], $3::bigint[]) with ordinality as missing (first, last, number)
        on conflict (stream, first_sequence) do update
        set last_sequence = excluded.last_sequence, ids = excluded.ids,
            is_complete = excluded.is_complete, refilled_through = null,
            found_at = clock_timestamp()
        ",
        owned.stream,
        &firsts,
        &lasts,
        &ids,
        loss.is_complete,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(true)
}

/// A loss is looked up while events are published, and until its session ends an event may pass as a duplicate of a
/// message that is missing. So what it names has no end at first; now that nothing is published it ends at the
/// cursor.
pub(super) async fn end_at_cursor(pool: &Pool, owned: &Owned, last_id: i64) -> sqlx::Result<()> {
    sqlx::query!(
        r"
        update outbox.stream_loss as loss
        set ids = array(
            select case upper(range) when $4 then int8range(lower(range), $5) else range end
            from unnest(loss.ids) as range
            where upper(range) <> $4 or lower(range) < $5
        )
        from outbox.cursor
        where cursor.stream = $1 and epoch = $2 and session = $6 and outbox.database_identity() = $3
            and loss.stream = $1 and refilled_through is null
            and exists (select from unnest(loss.ids) as range where upper(range) = $4)
        ",
        owned.stream,
        owned.epoch,
        owned.identity,
        NO_END,
        last_id + 1,
        owned.session,
    )
    .execute(pool)
    .await
    .map(drop)
}

/// All that is known, in order.
pub(super) async fn missing(pool: &Pool, stream: &str) -> sqlx::Result<Vec<RangeInclusive<i64>>> {
    let rows = sqlx::query!(
        r"
        select first_sequence, last_sequence from outbox.stream_loss
        where stream = $1 order by first_sequence
        ",
        stream,
    )
    .fetch_all(pool)
    .await?;
    let ranges = rows.into_iter();
    Ok(ranges
        .map(|it| it.first_sequence..=it.last_sequence)
        .collect())
}

/// Events that had been published up to this sequence, were lost, and were published again behind it.
pub(super) async fn published_again_behind(
    pool: &Pool,
    stream: &str,
    sequence: i64,
) -> sqlx::Result<Vec<Range<i64>>> {
    let ids = sqlx::query_scalar!(
        r"
        select ids from outbox.stream_loss
        where stream = $1 and first_sequence <= $2 and refilled_through > $2
        ",
        stream,
        sequence,
    )
    .fetch_all(pool)
    .await?;
    Ok(ids.iter().flatten().filter_map(bounds).collect())
}

/// Losses whose events are not on the stream again yet: their first sequences, and the events.
pub(super) async fn open(pool: &Pool, stream: &str) -> sqlx::Result<(Vec<i64>, Vec<Range<i64>>)> {
    let losses = sqlx::query!(
        r"
        select first_sequence, ids from outbox.stream_loss
        where stream = $1 and refilled_through is null
        ",
        stream,
    )
    .fetch_all(pool)
    .await?;
    let firsts = losses.iter().map(|it| it.first_sequence).collect();
    let ids = losses.iter().flat_map(|it| &it.ids);
    Ok((firsts, ids.filter_map(bounds).collect()))
}

/// Events among these that were set aside.
pub(super) async fn parked(pool: &Pool, ids: &[Range<i64>]) -> sqlx::Result<Vec<i64>> {
    let ids: Vec<_> = ids.iter().cloned().map(PgRange::from).collect();
    sqlx::query_scalar!(
        "select id from outbox.parked where id <@ any ($1::int8range[])",
        &ids,
    )
    .fetch_all(pool)
    .await
}

fn bounds(range: &PgRange<i64>) -> Option<Range<i64>> {
    match (range.start, range.end) {
        (Bound::Included(start), Bound::Excluded(end)) => Some(start..end),
        _ => None,
    }
}

/// Missing sequences whose events are on the stream again, and up to where; the latest last.
pub(super) async fn refilled(
    pool: &Pool,
    stream: &str,
) -> sqlx::Result<Vec<(RangeInclusive<i64>, i64)>> {
    let rows = sqlx::query!(
        r#"
        select first_sequence, last_sequence, refilled_through as "through!"
        from outbox.stream_loss
        where stream = $1 and is_complete and refilled_through is not null
        order by refilled_through, first_sequence
        "#,
        stream,
    )
    .fetch_all(pool)
    .await?;
    let refills = rows.into_iter();
    Ok(refills
        .map(|it| (it.first_sequence..=it.last_sequence, it.through))
        .collect())
}

/// If the saved cursor has passed all of the events and has no gap any more that holds one of them: all
/// of them are on the stream at its end or before it.
///
/// Only losses that this session has taken back into the cursor, named by their first sequences: of one
/// that was found since, the saved cursor does not know yet.
pub(super) async fn finish(
    pool: &Pool,
    owned: &Owned,
    taken_back: &[i64],
) -> sqlx::Result<Option<Finished>> {
    let finished = sqlx::query_as!(
        Finished,
        r#"
        with finished as (
            update outbox.stream_loss as loss set refilled_through = cursor.stream_sequence
            from outbox.cursor
            where cursor.stream = $1 and epoch = $2 and session = $5 and outbox.database_identity() = $3
                and loss.stream = $1 and refilled_through is null
                and first_sequence = any ($4)
                and not exists (
                    -- A cursor that was moved back comes to them later.
                    select from outbox.stream_loss as open
                    cross join lateral unnest(open.ids) as ids (ids)
                    where open.stream = $1 and open.refilled_through is null
                        and upper(ids.ids) - 1 > cursor.last_id
                )
                and not exists (
                    select from outbox.stream_loss as open
                    cross join lateral unnest(open.ids) as ids (ids)
                    cross join lateral unnest(cursor.gaps) as gap (ids)
                    where open.stream = $1 and open.refilled_through is null
                        and ids.ids && gap.ids
                )
            returning loss.last_sequence - loss.first_sequence + 1 as messages, is_complete,
                      refilled_through
        )
        select sum(messages)::bigint as "messages!", max(refilled_through) as "through!",
               count(*) filter (where is_complete) as "ranges!"
        from finished having count(*) > 0
        "#,
        owned.stream,
        owned.epoch,
        owned.identity,
        taken_back,
        owned.session,
    )
    .fetch_optional(pool)
    .await?;
    Ok(finished)
}

pub(super) async fn forget_above(
    transaction: &mut Connection,
    stream: &str,
    sequence: i64,
) -> sqlx::Result<()> {
    sqlx::query!(
        r"
        with forgotten as (
            delete from outbox.stream_loss where stream = $1 and first_sequence > $2
        ), lost_again as (
            update outbox.stream_loss
            set last_sequence = least(last_sequence, $2),
                refilled_through = case when refilled_through <= $2 then refilled_through end
            where stream = $1 and first_sequence <= $2
        )
        -- What had left the beginning before anybody looked is still to be noticed.
        update outbox.cursor
        set stream_first_sequence = least(stream_first_sequence, $2 + 1),
            stream_first_at = case when stream_first_sequence <= $2 then stream_first_at end
        where stream = $1
        ",
        stream,
        sequence,
    )
    .execute(transaction)
    .await
    .map(drop)
}

/// Forgets losses as well: those of which neither the messages nor those that came in their place are
/// on the stream any more, nor known to it as duplicates.
pub(super) async fn save_beginning(
    pool: &Pool,
    owned: &Owned,
    beginning: Beginning,
    duplicate_window: Duration,
) -> sqlx::Result<()> {
    sqlx::query!(
        r"
        with forgotten as (
            delete from outbox.stream_loss as loss using outbox.cursor
            where cursor.stream = $1 and epoch = $2 and session = $8 and outbox.database_identity() = $3
                and loss.stream = $1 and last_sequence < $4 and refilled_through < $4
                and found_at < clock_timestamp() - $7::float8 * interval '1 second'
        )
        update outbox.cursor
        set stream_first_sequence = $4, stream_first_at = $5, stream_max_age_seconds = $6
        where stream = $1 and epoch = $2 and session = $8 and outbox.database_identity() = $3
        ",
        owned.stream,
        owned.epoch,
        owned.identity,
        beginning.sequence,
        beginning.published_at,
        beginning.max_age_seconds,
        2.0 * duplicate_window.as_secs_f64(),
        owned.session,
    )
    .execute(pool)
    .await
    .map(drop)
}

/// Up to which sequence messages were published more than so many seconds ago, for all that is known.
pub(super) async fn published_before(
    pool: &Pool,
    stream: &str,
    seconds: f64,
) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        r"
        select min(stream_sequence) from outbox.checkpoint
        where stream = $1 and saved_at > clock_timestamp() - $2::float8 * interval '1 second'
        ",
        stream,
        seconds,
    )
    .fetch_one(pool)
    .await
}

/// Events with lower ids may have been dropped.
pub(in crate::relay) async fn ledger_from(db: impl PgExecutor<'_>) -> sqlx::Result<i64> {
    sqlx::query_scalar!("select ledger_from from outbox.ledger")
        .fetch_one(db)
        .await
}

#[cfg(test)]
mod tests;
