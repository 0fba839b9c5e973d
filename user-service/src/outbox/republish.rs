//! Putting the present state of users into the outbox once more, so that a copy can be rebuilt.

use sqlx::PgPool;
use uuid::Uuid;

/// What one batch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Republished {
    /// How many users.
    pub(crate) users: usize,
    /// The greatest id of them, to go on from.
    pub(crate) last_user_id: i64,
}

/// How many users there are with an id above `after`.
pub(crate) async fn users_after(pool: &PgPool, after: i64) -> sqlx::Result<u64> {
    let count: i64 = sqlx::query_scalar("select count(*) from users where id > $1")
        .bind(after)
        .fetch_one(pool)
        .await?;
    Ok(count.unsigned_abs())
}

/// Writes an event with the present state of each of the next users above `after`, at most
/// `limit` of them; `None` if there are none.
///
/// The users' rows are locked meanwhile, so that such an event keeps its place between the changes
/// of its user: no copy goes backwards, and no version appears on the stream after a later one.
pub(crate) async fn republish(
    pool: &PgPool,
    after: i64,
    limit: u16,
) -> sqlx::Result<Option<Republished>> {
    let event_ids: Vec<_> = (0..limit).map(|_| Uuid::now_v7()).collect();
    let ids: Vec<i64> = sqlx::query_scalar(
        r"
        with present as (
            select id, name, email, updated_at, version from users
            where id > $1 order by id limit $2 for share
        ), numbered as (
            select *, row_number() over (order by id) as number from present
        ), event as (
            insert into outbox (event_id, type, user_id, version, payload)
            select ($3::uuid[])[number], 'user_updated', id, version,
                   user_state(id, name, email, updated_at, version)
            from numbered order by id
        )
        select id from present order by id
        ",
    )
    .bind(after)
    .bind(i64::from(limit))
    .bind(event_ids)
    .fetch_all(pool)
    .await?;
    Ok(ids.last().map(|last| Republished {
        users: ids.len(),
        last_user_id: *last,
    }))
}
