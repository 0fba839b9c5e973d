//! Noticing a ledger that is behind a cursor: restored to an earlier state, or with a sequence that
//! gives out again ids that the relay has passed. Events written there must not be skipped.

use anyhow::ensure;
use postgres_pool::{Connection, Pool};

use super::{cursor::Cursor, decisions, lease::Lease};
use crate::ledger;

/// Ids that are left out when the sequence is moved on, for those drawn at the same moment.
const ROOM: i64 = 1000;

/// Whether the ledger still has the event that the cursor passed last. All that came before is then
/// as it was, since a ledger loses its end first.
pub(super) async fn has(pool: &Pool, cursor: &Cursor) -> sqlx::Result<bool> {
    let last_id = cursor.position.last_id();
    let found = ledger::event_id(pool, last_id).await?;
    Ok(match (found, cursor.last_event_id) {
        (Some(found), Some(known)) => found == known,
        (Some(_), None) => true,
        // Dropped after the retention, with everything before it.
        (None, _) => !has_older(pool, last_id).await?,
    })
}

async fn has_older(pool: &Pool, id: i64) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from outbox.event where id < $1) as "has_older!""#,
        id,
    )
    .fetch_one(pool)
    .await
}

/// Whether events get ids that a cursor has passed.
async fn is_sequence_behind(pool: &Pool) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (
            select from outbox.cursor, outbox.event_id_seq
            where last_value - (not is_called)::int < last_id
        ) as "is_behind!"
        "#,
    )
    .fetch_one(pool)
    .await
}

/// Makes sure that ids are given out one by one, and none that was passed already. No session may run
/// meanwhile.
pub(super) async fn check_sequence(pool: &Pool, lease: &Lease) -> anyhow::Result<()> {
    let cache = sqlx::query_scalar!(
        r#"
        select seqcache as "cache!" from pg_sequence
        where seqrelid = 'outbox.event_id_seq'::regclass
        "#,
    )
    .fetch_one(pool)
    .await?;
    ensure!(
        cache == 1,
        "outbox.event_id_seq has a cache of {cache}, so events may be published out of order: run \
         `alter sequence outbox.event_id_seq cache 1`, and have producers connect again"
    );
    if is_sequence_behind(pool).await? {
        repair_sequence(pool, lease).await?;
    }
    Ok(())
}

/// Moves the cursors that have passed ids which are given out again back to the beginning of the
/// ledger, since nothing tells which ids those were, and then the sequence beyond all ids that are
/// known, so that none is given out twice from there on. Should this end half-way, what it has not
/// done is found again. Both steps hold the lease: a relay that has lost it must do neither.
async fn repair_sequence(pool: &Pool, lease: &Lease) -> sqlx::Result<()> {
    let mut transaction = pool.begin().await?;
    if !lease.hold(&mut transaction).await? {
        return Ok(());
    }
    let greatest = sqlx::query_scalar!(
        r#"
        select greatest(
            (select last_value from outbox.event_id_seq),
            (select max(last_id) from outbox.cursor),
            (select max(id) from outbox.event)
        ) as "id!"
        "#,
    )
    .fetch_one(&mut *transaction)
    .await?;
    let streams = move_cursors_back(&mut transaction, lease).await?;
    transaction.commit().await?;
    for stream in &streams {
        decisions::moved_to_the_beginning(lease, stream);
    }

    let mut transaction = pool.begin().await?;
    if !lease.hold(&mut transaction).await? {
        return Ok(());
    }
    let next_id = move_sequence(&mut transaction, greatest).await?;
    transaction.commit().await?;
    tracing::error!(
        ?streams,
        cursor_outbox_id = greatest,
        next_outbox_id = next_id,
        "the sequence of the outbox was behind the relay's cursor; moved it on, and publishing the \
         ledger again"
    );
    Ok(())
}

/// Moves the sequence above this id, unless it is there.
pub(super) async fn move_sequence_above(db: &mut Connection, id: i64) -> sqlx::Result<()> {
    let last = sqlx::query_scalar!("select last_value from outbox.event_id_seq")
        .fetch_one(&mut *db)
        .await?;
    if last <= id {
        let next_id = move_sequence(db, id).await?;
        tracing::warn!(
            next_id,
            "moved the sequence of the outbox above ids that are on the stream"
        );
    }
    Ok(())
}

/// Others may have drawn ids meanwhile.
async fn move_sequence(db: &mut Connection, above: i64) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"
        select setval(
            'outbox.event_id_seq',
            greatest($1, nextval('outbox.event_id_seq'), (select max(id) from outbox.event)) + $2
        ) as "id!"
        "#,
        above,
        ROOM,
    )
    .fetch_one(db)
    .await
}

/// The streams of those that have passed ids that are given out again.
async fn move_cursors_back(db: &mut Connection, lease: &Lease) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"
        with behind as (
            select stream from outbox.cursor, outbox.event_id_seq
            where epoch = $1 and last_value - (not is_called)::int < last_id
        ), forgotten_checkpoints as (
            delete from outbox.checkpoint where stream in (select stream from behind)
        ), forgotten_runs as (
            delete from outbox.republish_run where stream in (select stream from behind)
        )
        update outbox.cursor
        set last_id = 0, last_event_id = null, gaps = '{}',
            -- What is on the stream up to there the ledger had, if it has the last of it.
            stream_sequence = case when has_last then stream_sequence else 0 end,
            stream_event_id = case when has_last then stream_event_id end,
            looked_up_to = case when has_last then looked_up_to else 0 end,
            complete_from = case when ledger_from = 1 then 1 end
        from outbox.ledger, (
            select cursor.stream, event.event_id is not null as has_last from outbox.cursor
            left join lateral (
                select event_id from outbox.event where id = cursor.last_id offset 0
            ) as event on event.event_id = cursor.last_event_id
        ) as known
        where cursor.stream in (select stream from behind) and known.stream = cursor.stream
        returning cursor.stream
        "#,
        lease.epoch,
    )
    .fetch_all(db)
    .await
}
