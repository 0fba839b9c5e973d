//! Whose events each stream's session sees to, and what to do when the routes change that.
//!
//! A stream passes the events of other streams. So when it becomes responsible for more of them, those
//! that it has passed already and that nobody else has published must not be forgotten.

use postgres_pool::Connection;

use crate::route::{RoutedStream, Routes};

/// Enters into the cursors what these routes make them responsible for. If that is a change, each cursor
/// takes back what any other has not passed yet: somebody else was to see to it until now. What a stream
/// has already is published again, under the same ids and in order.
pub(super) async fn change(db: &mut Connection, routes: &Routes) -> sqlx::Result<()> {
    let cursors = sqlx::query!(
        "select stream, aggregate_types from outbox.cursor order by stream for update"
    )
    .fetch_all(&mut *db)
    .await?;
    let changed: Vec<_> = (cursors.into_iter())
        .filter(|cursor| cursor.aggregate_types != routes.responsibility(&cursor.stream))
        .map(|cursor| cursor.stream)
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r"
        update outbox.cursor set gaps = array(
            select unnest(range_agg(missing) * int8multirange(int8range(1, cursor.last_id + 1)))
            from (
                select unnest(other.gaps) from outbox.cursor as other
                union all
                select int8range(other.last_id + 1, null) from outbox.cursor as other
            ) as missing (missing)
        )
        "
    )
    .execute(&mut *db)
    .await?;
    for stream in &changed {
        sqlx::query!(
            r"
            update outbox.cursor set
                aggregate_types = $2,
                -- Of the types that it gained, it does not have the earlier events.
                complete_from = case when $2::text[] is null then complete_from end
            where stream = $1
            ",
            stream,
            routes.responsibility(stream) as _,
        )
        .execute(&mut *db)
        .await?;
    }
    tracing::info!(?changed, "the routes have changed");
    Ok(())
}

/// What this stream is going to publish by itself is not parked any more for want of a route.
pub(super) async fn unpark(db: &mut Connection, stream: &RoutedStream) -> sqlx::Result<()> {
    sqlx::query!(
        r"
        delete from outbox.parked using outbox.cursor
        where cursor.stream = $1 and attempts = 0 and aggregate_type = any ($2)
            and (
                parked.id > cursor.last_id
                or exists (select from unnest(cursor.gaps) as gap where gap @> parked.id)
            )
            and exists (select from outbox.event where event.id = parked.id)
        ",
        stream.topic.stream,
        &stream.aggregate_types,
    )
    .execute(db)
    .await
    .map(drop)
}
