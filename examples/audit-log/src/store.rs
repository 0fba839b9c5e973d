//! The entries in Postgres.

use postgres_pool::Pool;

use crate::entry::Entry;

/// Writes an entry for each event that has none yet, and its id into the inbox, in one statement:
/// both or neither. Processes that write the same events wait for each other in the order of ids.
///
/// # Errors
/// If Postgres refuses one of them or does not answer. Harmless to repeat.
pub(crate) async fn record(pool: &Pool, entries: &[Entry]) -> sqlx::Result<()> {
    let event_ids: Vec<_> = entries.iter().map(|it| it.event_id).collect();
    let event_types: Vec<_> = entries.iter().map(|it| it.event_type).collect();
    let user_ids: Vec<_> = entries.iter().map(|it| it.user_id).collect();
    let versions: Vec<_> = entries.iter().map(|it| it.version).collect();
    let times: Vec<_> = entries.iter().map(|it| it.happened_at).collect();
    let bodies: Vec<_> = entries.iter().map(|it| it.body.as_str()).collect();
    sqlx::query!(
        r"
        with event as (
            select distinct on (event_id) *
            from unnest(
                $1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::timestamptz[], $6::text[]
            ) with ordinality as delivered (
                event_id, event_type, user_id, version, happened_at, body, place
            )
            order by event_id, place
        ), new as (
            insert into inbox (event_id)
            select event_id from event order by event_id
            on conflict do nothing
            returning event_id
        )
        insert into audit_entry (event_id, event_type, user_id, version, happened_at, event)
        select event_id, event_type, user_id, version, happened_at, body::json
        from event join new using (event_id)
        order by place
        ",
        &event_ids,
        &event_types as &[&str],
        &user_ids,
        &versions,
        &times,
        &bodies as &[&str],
    )
    .execute(pool)
    .await
    .map(drop)
}

/// Whether entries can be written now: the server takes writes, and the tables are there.
pub(crate) async fn check(pool: &Pool) -> sqlx::Result<()> {
    // A read-only server refuses row locks, and this locks no row.
    sqlx::query!("select event_id from inbox where false for key share")
        .fetch_optional(pool)
        .await
        .map(drop)
}
