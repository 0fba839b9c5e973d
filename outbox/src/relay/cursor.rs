//! The cursor row: how far the ledger is on the stream, written only by the owner of the lease.

use std::ops::{Bound, Range};

use postgres_pool::Pool;
use sqlx::{FromRow, PgExecutor, postgres::types::PgRange};
use uuid::Uuid;

use super::{completeness, lease::Lease, position::Position};

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
    /// This event is done.
    pub(super) fn pass(&mut self, id: i64, event_id: Uuid) {
        if id > self.position.last_id() {
            self.last_event_id = Some(event_id);
        }
        self.position.pass(id);
    }
}

/// The acknowledged event with the greatest sequence. Every event that the cursor has passed is on
/// the stream at this sequence or a lower one (or parked), so a stream that still has this event
/// has them all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tail {
    /// 0 before the first.
    pub(super) sequence: i64,
    pub(super) event_id: Option<Uuid>,
}

#[derive(FromRow)]
struct CursorRow {
    last_id: i64,
    gaps: Vec<PgRange<i64>>,
    last_event_id: Option<Uuid>,
    stream_sequence: i64,
    stream_event_id: Option<Uuid>,
}

/// The lease has passed to another owner: what this one knows no longer counts.
#[derive(Debug, thiserror::Error)]
pub(super) enum CursorError {
    #[error("the lease has passed to another relay")]
    LeaseLost,
    #[error("the sequence of the outbox is behind the cursor")]
    LedgerBehind,
    #[error("Postgres did not keep the cursor")]
    Database(#[from] sqlx::Error),
}

pub(super) async fn load(db: impl PgExecutor<'_>) -> sqlx::Result<Cursor> {
    let row: CursorRow = sqlx::query_as(
        r"
        select last_id, gaps, stream_sequence, stream_event_id,
               case when anchor_id = last_id then anchor_event_id end as last_event_id
        from relay_cursor
        ",
    )
    .fetch_one(db)
    .await?;
    Ok(row.into())
}

/// Moves the cursor, under the lease. Looks at the sequence of the ledger in passing: while it is
/// behind the cursor, events get ids that the reader has passed already.
pub(super) async fn save(
    db: impl PgExecutor<'_>,
    lease: &Lease,
    cursor: &Cursor,
) -> Result<(), CursorError> {
    let drawn: Option<i64> = sqlx::query_scalar(
        r"
        update relay_cursor
        set last_id = $2, gaps = $3, stream_sequence = $4, stream_event_id = $5,
            anchor_id = $2, anchor_event_id = $6
        where epoch = $1
        returning (select last_value from outbox_id_seq)
        ",
    )
    .bind(lease.epoch)
    .bind(cursor.position.last_id())
    .bind(ranges(&cursor.position))
    .bind(cursor.tail.sequence)
    .bind(cursor.tail.event_id)
    .bind(cursor.last_event_id)
    .fetch_optional(db)
    .await?;
    match drawn {
        None => Err(CursorError::LeaseLost),
        Some(drawn) if drawn < cursor.position.last_id() => Err(CursorError::LedgerBehind),
        Some(_) => Ok(()),
    }
}

/// Moves the cursor back to a checkpoint and forgets those behind it.
pub(super) async fn move_back(
    pool: &Pool,
    lease: &Lease,
    checkpoint: &Cursor,
) -> Result<(), CursorError> {
    let mut transaction = pool.begin().await?;
    save(&mut *transaction, lease, checkpoint).await?;
    sqlx::query("delete from relay_checkpoint where stream_sequence > $1")
        .bind(checkpoint.tail.sequence)
        .execute(&mut *transaction)
        .await?;
    completeness::move_back(&mut transaction).await?;
    transaction.commit().await?;
    Ok(())
}

/// Remembers the cursor as a place to come back to.
pub(super) async fn save_checkpoint(pool: &Pool, cursor: &Cursor) -> sqlx::Result<()> {
    sqlx::query(
        r"
        insert into relay_checkpoint (stream_sequence, stream_event_id, last_id, gaps,
                                      anchor_id, anchor_event_id)
        values ($1, $2, $3, $4, $3, $5)
        on conflict (stream_sequence) do update
        set stream_event_id = excluded.stream_event_id, last_id = excluded.last_id,
            gaps = excluded.gaps, anchor_id = excluded.anchor_id,
            anchor_event_id = excluded.anchor_event_id, saved_at = clock_timestamp()
        ",
    )
    .bind(cursor.tail.sequence)
    .bind(cursor.tail.event_id)
    .bind(cursor.position.last_id())
    .bind(ranges(&cursor.position))
    .bind(cursor.last_event_id)
    .execute(pool)
    .await?;
    Ok(())
}

/// The newest checkpoint below a sequence of the stream.
pub(super) async fn checkpoint_below(pool: &Pool, sequence: i64) -> sqlx::Result<Option<Cursor>> {
    let row: Option<CursorRow> = sqlx::query_as(
        r"
        select last_id, gaps, stream_sequence, stream_event_id,
               case when anchor_id = last_id then anchor_event_id end as last_event_id
        from relay_checkpoint
        where stream_sequence < $1 order by stream_sequence desc limit 1
        ",
    )
    .bind(sequence)
    .fetch_optional(pool)
    .await?;
    Ok(row.map(Cursor::from))
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
