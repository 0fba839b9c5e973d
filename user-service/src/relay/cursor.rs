//! The cursor row: how far the ledger is on the stream, written only by the owner of the lease.

use std::ops::{Bound, Range};

use sqlx::{FromRow, PgExecutor, postgres::types::PgRange};
use uuid::Uuid;

use super::{lease::Lease, position::Position};

use crate::database::Pool;

/// How far the ledger is on the stream, and how to tell that the stream still has it.
#[derive(Debug, Clone, Default)]
pub(super) struct Cursor {
    pub(super) position: Position,
    pub(super) tail: Tail,
}

/// The last event that the stream acknowledged.
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
    stream_sequence: i64,
    stream_event_id: Option<Uuid>,
}

/// The lease has passed to another owner: what this one knows no longer counts.
#[derive(Debug, thiserror::Error)]
pub(super) enum CursorError {
    #[error("the lease has passed to another relay")]
    LeaseLost,
    #[error("Postgres did not keep the cursor")]
    Database(#[from] sqlx::Error),
}

pub(super) async fn load(db: impl PgExecutor<'_>) -> sqlx::Result<Cursor> {
    let row: CursorRow =
        sqlx::query_as("select last_id, gaps, stream_sequence, stream_event_id from relay_cursor")
            .fetch_one(db)
            .await?;
    Ok(row.into())
}

/// Moves the cursor, under the lease.
pub(super) async fn save(
    db: impl PgExecutor<'_>,
    lease: &Lease,
    cursor: &Cursor,
) -> Result<(), CursorError> {
    let saved = sqlx::query(
        r"
        update relay_cursor
        set last_id = $2, gaps = $3, stream_sequence = $4, stream_event_id = $5
        where epoch = $1
        ",
    )
    .bind(lease.epoch)
    .bind(cursor.position.last_id())
    .bind(ranges(&cursor.position))
    .bind(cursor.tail.sequence)
    .bind(cursor.tail.event_id)
    .execute(db)
    .await?;
    if saved.rows_affected() == 0 {
        return Err(CursorError::LeaseLost);
    }
    Ok(())
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
    transaction.commit().await?;
    Ok(())
}

/// Remembers the cursor as a place to come back to.
pub(super) async fn save_checkpoint(pool: &Pool, cursor: &Cursor) -> sqlx::Result<()> {
    sqlx::query(
        r"
        insert into relay_checkpoint (stream_sequence, stream_event_id, last_id, gaps)
        values ($1, $2, $3, $4)
        on conflict (stream_sequence) do update
        set stream_event_id = excluded.stream_event_id, last_id = excluded.last_id,
            gaps = excluded.gaps, saved_at = clock_timestamp()
        ",
    )
    .bind(cursor.tail.sequence)
    .bind(cursor.tail.event_id)
    .bind(cursor.position.last_id())
    .bind(ranges(&cursor.position))
    .execute(pool)
    .await?;
    Ok(())
}

/// The newest checkpoint below a sequence of the stream.
pub(super) async fn checkpoint_below(pool: &Pool, sequence: i64) -> sqlx::Result<Option<Cursor>> {
    let row: Option<CursorRow> = sqlx::query_as(
        r"
        select last_id, gaps, stream_sequence, stream_event_id from relay_checkpoint
        where stream_sequence < $1 order by stream_sequence desc limit 1
        ",
    )
    .bind(sequence)
    .fetch_optional(pool)
    .await?;
    Ok(row.map(Cursor::from))
}

fn ranges(position: &Position) -> Vec<PgRange<i64>> {
    position.gaps().map(PgRange::from).collect()
}

impl From<CursorRow> for Cursor {
    fn from(row: CursorRow) -> Self {
        Self {
            position: Position::new(row.last_id, row.gaps.iter().filter_map(bounds)),
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
