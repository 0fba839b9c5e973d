//! Putting the present state of users into the outbox once more, so that a copy can be rebuilt.

mod creations;

use outbox::parked::{self, Decision, Parked};
use postgres_pool::{Connection, Pool};
use sqlx::PgExecutor;
use uuid::Uuid;

/// Of the events of users.
const AGGREGATE_TYPE: &str = "user";

/// What one batch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Republished {
    /// How many users.
    pub(crate) users: usize,
    /// The greatest id of them, to go on from.
    pub(crate) last_user_id: i64,
}

/// The greatest id of a user; 0 if there is none.
pub(crate) async fn last_user_id(db: impl PgExecutor<'_>) -> sqlx::Result<i64> {
    sqlx::query_scalar!(r#"select coalesce(max(id), 0) as "id!" from users"#)
        .fetch_one(db)
        .await
}

/// Writes an event with the present state of each of the next users above `after`, at most
/// `limit` of them; `None` if there are none.
///
/// The users' rows are locked meanwhile, so that such an event keeps its place between the changes
/// of its user: no copy goes backwards, and no version appears on the stream after a later one.
pub(crate) async fn republish(
    pool: &Pool,
    after: i64,
    limit: u16,
) -> sqlx::Result<Option<Republished>> {
    let event_ids: Vec<_> = (0..limit).map(|_| Uuid::now_v7()).collect();
    let ids = sqlx::query_scalar!(
        r#"
        with present as (
            select id, version, user_state(users, version, updated_at) as state from users
            where id > $1 order by id limit $2 for share
        ), numbered as (
            select *, row_number() over (order by id) as number from present
        ), event as (
            insert into outbox.event (event_id, aggregate_type, aggregate_id, event_type, version,
                                      payload, headers)
            select ($3::uuid[])[number], 'user', id::text, 'user_updated', version, state,
                   event_headers(null)
            from numbered order by id
        )
        select id as "id!" from present order by id
        "#,
        after,
        i64::from(limit),
        &event_ids,
    )
    .fetch_all(pool)
    .await?;
    Ok(ids.last().map(|last| Republished {
        users: ids.len(),
        last_user_id: *last,
    }))
}

/// Whether a parked event is still to be published: if it has its user's present state. A lock on the
/// user's row keeps it so until the transaction ends. Other aggregates are known by their events
/// only.
pub(crate) async fn decide_retry(db: &mut Connection, parked: &Parked) -> sqlx::Result<Decision> {
    if parked.aggregate_type != AGGREGATE_TYPE {
        return parked::refuse_out_of_order(db, parked).await;
    }
    let present = sqlx::query_scalar!(
        "select version from users where id = $1::text::bigint for share",
        parked.aggregate_id,
    )
    .fetch_optional(db)
    .await?;
    let is_latest = match present {
        Some(present) => Some(present) == parked.version,
        None => parked.event_type == "user_deleted",
    };
    Ok(match is_latest {
        true => Decision::Requeue,
        false => Decision::Supersede,
    })
}

/// A user whose present state is to be published above a version that a copy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) user_id: i64,
    /// 0 if the copy has nothing.
    pub(crate) above: i64,
}

/// Writes an event for each of these users, at a version above the one named: the user's state, or
/// the deletion of one that is not there. Users whose own version is too low are raised first.
/// Ids that were never given out, or whose users may be being created, are left alone: their users
/// would be born deleted. How many events it wrote.
///
/// Each user may be named once.
pub(crate) async fn republish_these(pool: &Pool, wanted: &[Wanted]) -> sqlx::Result<u64> {
    let settled = creations::settled(pool).await?;
    if settled.is_none() {
        tracing::warn!(
            "users who are not there were not republished as deleted: a transaction that may be \
             creating them is open"
        );
    }
    let mut transaction = pool.begin().await?;
    let absent = hold_absent(&mut transaction, wanted, settled.unwrap_or(0)).await?;
    let (absent, present): (Vec<Wanted>, Vec<_>) =
        (wanted.iter()).partition(|it| absent.contains(&it.user_id));
    let mut written = 0;
    if !present.is_empty() {
        written += republish_present(&mut transaction, &present).await?;
    }
    if !absent.is_empty() {
        written += republish_deleted(&mut transaction, &absent).await?;
    }
    transaction.commit().await?;
    Ok(written)
}

/// Which of these users are not there, of those with ids up to `settled`. Each is held by a row that
/// nobody else will ever see: its insertion waits for whoever is deleting the user right now.
async fn hold_absent(
    db: &mut Connection,
    wanted: &[Wanted],
    settled: i64,
) -> sqlx::Result<Vec<i64>> {
    sqlx::query_scalar!(
        r"
        insert into users (id, name, email) overriding system value
        select id, '', gen_random_uuid()::text from unnest($1::bigint[]) as wanted (id)
        where id <= $2
        order by id
        on conflict (id) do nothing
        returning id
        ",
        &wanted.iter().map(|it| it.user_id).collect::<Vec<_>>(),
        settled,
    )
    .fetch_all(db)
    .await
}

async fn republish_present(db: &mut Connection, wanted: &[Wanted]) -> sqlx::Result<u64> {
    let (user_ids, above, event_ids) = columns(wanted);
    let written = sqlx::query!(
        r"
        with wanted as (
            select * from unnest($1::bigint[], $2::bigint[], $3::uuid[])
                as wanted (user_id, above, event_id)
        ), present as (
            select id from users where id = any($1) order by id for no key update
        ), raised as (
            update users set version = greatest(version, above + 1)
            from present join wanted on user_id = present.id
            where users.id = present.id
            returning event_id, users.id, users.version,
                      user_state(users, users.version, users.updated_at) as state
        )
        insert into outbox.event (event_id, aggregate_type, aggregate_id, event_type, version,
                                  payload, headers)
        select event_id, 'user', id::text, 'user_updated', version, state, event_headers(null)
        from raised
        ",
        &user_ids,
        &above,
        &event_ids,
    );
    Ok(written.execute(db).await?.rows_affected())
}

async fn republish_deleted(db: &mut Connection, wanted: &[Wanted]) -> sqlx::Result<u64> {
    let (user_ids, above, event_ids) = columns(wanted);
    let written = sqlx::query!(
        r#"
        with wanted as (
            select * from unnest($1::bigint[], $2::bigint[], $3::uuid[])
                as wanted (user_id, above, event_id)
        ), placeholder as (
            delete from users where id = any($1) returning id
        ), deleted as (
            -- Nothing is known of them but their ids.
            select event_id, id, above + 1 as version,
                   jsonb_populate_record(
                       null::users, jsonb_build_object('id', id, 'name', '', 'email', '')
                   ) as "user"
            from placeholder join wanted on user_id = id
        )
        insert into outbox.event (event_id, aggregate_type, aggregate_id, event_type, version,
                                  payload, headers)
        select event_id, 'user', id::text, 'user_deleted', version,
               user_state("user", version, clock_timestamp()), event_headers(null)
        from deleted
        "#,
        &user_ids,
        &above,
        &event_ids,
    );
    Ok(written.execute(db).await?.rows_affected())
}

/// The ids and versions, and an id for each event.
fn columns(wanted: &[Wanted]) -> (Vec<i64>, Vec<i64>, Vec<Uuid>) {
    let user_ids = wanted.iter().map(|it| it.user_id).collect();
    let above = wanted.iter().map(|it| it.above).collect();
    (
        user_ids,
        above,
        wanted.iter().map(|_| Uuid::now_v7()).collect(),
    )
}
