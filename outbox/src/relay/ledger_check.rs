//! Noticing a ledger that is behind the cursor: restored to an earlier state, or with a sequence that
//! gives out again ids that the relay has passed. Events written there must not be skipped.

use postgres_pool::Pool;
use uuid::Uuid;

use super::cursor::Cursor;

/// Ids that are left out when the sequence is moved on, for those drawn at the same moment.
const ROOM: i64 = 1000;

/// Whether the ledger still has the event that the cursor passed last. All that came before is then
/// as it was, since a ledger loses its end first.
pub(super) async fn has(pool: &Pool, cursor: &Cursor) -> sqlx::Result<bool> {
    let (found, has_older): (Option<Uuid>, bool) = sqlx::query_as(
        r"
        select (select event_id from outbox where id = $1),
               exists (select from outbox where id < $1)
        ",
    )
    .bind(cursor.position.last_id())
    .fetch_one(pool)
    .await?;
    Ok(match (found, cursor.last_event_id) {
        (Some(found), Some(known)) => found == known,
        (Some(_), None) => true,
        // Dropped after the retention, with everything before it.
        (None, _) => !has_older,
    })
}

/// Whether events get ids that the cursor has passed.
pub(super) async fn is_behind(pool: &Pool) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        r"
        select last_value - (not is_called)::int < last_id
        from outbox_id_seq, relay_cursor
        ",
    )
    .fetch_one(pool)
    .await
}

/// Moves the sequence beyond all ids that the ledger or the cursor knows: from there on no id is
/// given out twice.
pub(super) async fn advance_sequence(pool: &Pool) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        r"
        select setval('outbox_id_seq', $1 + greatest(
            (select last_value from outbox_id_seq),
            (select last_id from relay_cursor),
            (select max(id) from outbox)
        ))
        ",
    )
    .bind(ROOM)
    .fetch_one(pool)
    .await
}
