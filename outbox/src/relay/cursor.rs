//! The cursor of a stream: how far the ledger is on it, written only by the owner of the lease.

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;

use std::ops::{Bound, Range};

use postgres_pool::{Connection, Pool};
use sqlx::{PgExecutor, postgres::types::PgRange};
use uuid::Uuid;

use super::{failure::Failure, owned::Owned, position::Position};

/// Gaps in the saved cursor. Of more than these some are joined, and what lies between them is
/// published a second time after a crash.
const SAVED_GAPS: usize = 1000;

/// How far the ledger is on the stream, and how to tell that both still have it.
#[derive(Debug, Clone, Default)]
pub(super) struct Cursor {
    pub(super) position: Position,
    /// The event with the position's `last_id`: if the ledger has another one under this id, or
    /// none, it was restored to an earlier state. `None` if it is not known.
    pub(super) last_event_id: Option<Uuid>,
    pub(super) tail: Tail,
}

impl Cursor {
    /// The events with these ids are done. The last of them has this event id.
    pub(super) fn pass(&mut self, ids: Range<i64>, last_event_id: Uuid) {
        if ids.end > self.position.last_id() + 1 {
            self.last_event_id = Some(last_event_id);
        }
        self.position.pass_all(ids);
    }
}

/// The acknowledged event with the greatest sequence. Every event that the cursor has passed is on
/// the stream at this sequence or a lower one (or parked, or of another stream), so a stream that
/// still has this event has them all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tail {
    /// 0 before the first.
    pub(super) sequence: i64,
    pub(super) event_id: Option<Uuid>,
}

struct CursorRow {
    last_id: i64,
    gaps: Vec<PgRange<i64>>,
    last_event_id: Option<Uuid>,
    stream_sequence: i64,
    stream_event_id: Option<Uuid>,
}

pub(super) async fn load(db: impl PgExecutor<'_>, stream: &str) -> sqlx::Result<Cursor> {
    let row = sqlx::query_as!(
        CursorRow,
        r"
        select last_id, gaps, stream_sequence, stream_event_id, last_event_id
        from outbox.cursor where stream = $1
        ",
        stream,
    )
    .fetch_one(db)
    .await?;
    Ok(row.into())
}

/// Moves the cursor. Looks at the sequence of the ledger in passing: while it is behind the cursor, events
/// get ids that the reader has passed already.
pub(super) async fn save(
    db: impl PgExecutor<'_>,
    owned: &Owned,
    cursor: &Cursor,
) -> Result<(), Failure> {
    let drawn = sqlx::query_scalar!(
        r#"
        update outbox.cursor
        set last_id = $3, gaps = $4, stream_sequence = $5, stream_event_id = $6, last_event_id = $7
        where stream = $1 and epoch = $2 and session = $9 and outbox.database_identity() = $8
        returning (select last_value from outbox.event_id_seq) as "drawn!"
        "#,
        owned.stream,
        owned.epoch,
        cursor.position.last_id(),
        &ranges(&cursor.position),
        cursor.tail.sequence,
        cursor.tail.event_id,
        cursor.last_event_id,
        owned.identity,
        owned.session,
    )
    .fetch_optional(db)
    .await?;
    match drawn {
        None => Err(Failure::SessionOver),
        Some(drawn) if drawn < cursor.position.last_id() => Err(Failure::SequenceBehind),
        Some(_) => Ok(()),
    }
}

/// Forgets the places to come back to that are behind this one.
pub(super) async fn forget_checkpoints_above(
    db: impl PgExecutor<'_>,
    stream: &str,
    sequence: i64,
) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from outbox.checkpoint where stream = $1 and stream_sequence > $2",
        stream,
        sequence,
    )
    .execute(db)
    .await
    .map(drop)
}

/// The cursor of a stream was moved back, in this transaction: what is above its tail is to be looked
/// up again.
pub(super) async fn look_up_again(transaction: &mut Connection, stream: &str) -> sqlx::Result<()> {
    sqlx::query!(
        r"
        with moved as (
            update outbox.cursor set looked_up_to = least(looked_up_to, stream_sequence)
            where stream = $1 returning stream_sequence
        )
        update outbox.orphan
        set stream_sequence = least(orphan.stream_sequence, moved.stream_sequence)
        from moved where stream = $1
        ",
        stream,
    )
    .execute(transaction)
    .await
    .map(drop)
}

/// Remembers the cursor as a place to come back to. It must be exact: what a checkpoint has not passed is taken
/// for published later.
pub(super) async fn save_checkpoint(
    pool: &Pool,
    owned: &Owned,
    cursor: &Cursor,
) -> sqlx::Result<()> {
    sqlx::query!(
        r"
        insert into outbox.checkpoint (stream, stream_sequence, stream_event_id, last_id, gaps,
                                       last_event_id)
        select $1::text, $2::bigint, $3::uuid, $4::bigint, $5::int8range[], $6::uuid
        where exists (
            select from outbox.cursor
            where stream = $1 and epoch = $7 and session = $9 and outbox.database_identity() = $8
        )
        on conflict (stream, stream_sequence) do update
        set stream_event_id = excluded.stream_event_id, last_id = excluded.last_id,
            gaps = excluded.gaps, last_event_id = excluded.last_event_id,
            saved_at = clock_timestamp()
        ",
        owned.stream,
        cursor.tail.sequence,
        cursor.tail.event_id,
        cursor.position.last_id(),
        &ranges(&cursor.position),
        cursor.last_event_id,
        owned.epoch,
        owned.identity,
        owned.session,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The newest checkpoint below a sequence of the stream.
pub(super) async fn checkpoint_below(
    pool: &Pool,
    stream: &str,
    sequence: i64,
) -> sqlx::Result<Option<Cursor>> {
    let row = sqlx::query_as!(
        CursorRow,
        r#"
        select last_id, gaps, stream_sequence, stream_event_id as "stream_event_id?", last_event_id
        from outbox.checkpoint
        where stream = $1 and stream_sequence < $2 order by stream_sequence desc limit 1
        "#,
        stream,
        sequence,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(Cursor::from))
}

/// The first checkpoints at a sequence of the stream or above it, at most so many.
pub(super) async fn checkpoints_from(
    pool: &Pool,
    stream: &str,
    sequence: i64,
    limit: i64,
) -> sqlx::Result<Vec<Cursor>> {
    let rows = sqlx::query_as!(
        CursorRow,
        r#"
        select last_id, gaps, stream_sequence, stream_event_id as "stream_event_id?", last_event_id
        from outbox.checkpoint
        where stream = $1 and stream_sequence >= $2 order by stream_sequence limit $3
        "#,
        stream,
        sequence,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(Cursor::from).collect())
}

/// Whether it is saved as it is, and not with some of its gaps joined.
pub(super) fn is_exact(cursor: &Cursor) -> bool {
    cursor.position.gaps().nth(SAVED_GAPS).is_none()
}

/// At which sequences the newest checkpoints are, at most so many; the newest first.
pub(super) async fn newest_checkpoints(
    pool: &Pool,
    stream: &str,
    limit: i64,
) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar!(
        r"
        select stream_sequence from outbox.checkpoint
        where stream = $1 order by stream_sequence desc limit $2
        ",
        stream,
        limit,
    )
    .fetch_all(pool)
    .await
}

fn ranges(position: &Position) -> Vec<PgRange<i64>> {
    let gaps = position.gaps_at_most(SAVED_GAPS);
    gaps.into_iter().map(PgRange::from).collect()
}

impl From<CursorRow> for Cursor {
    fn from(row: CursorRow) -> Self {
        Self {
            position: Position::new(row.last_id, row.gaps.iter().filter_map(bounds)),
            last_event_id: row.last_event_id,
            tail: Tail {
                sequence: row.stream_sequence,
                event_id: row.stream_event_id,
            },
        }
    }
}

/// Postgres keeps integer ranges as `[start, end)`; an empty one has no bounds.
fn bounds(range: &PgRange<i64>) -> Option<Range<i64>> {
    match (range.start, range.end) {
        (Bound::Included(start), Bound::Excluded(end)) => Some(start..end),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
