//! Putting the present state of users into the outbox once more, so that a copy can be mended or rebuilt.

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

/// How many users were published, and how many were left alone and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Restated {
    pub(crate) published: u64,
    /// Somebody may be creating them: they would be born deleted.
    pub(crate) maybe_in_creation: u64,
    /// Their ids are too far beyond those given out.
    pub(crate) out_of_reach: u64,
}

/// Writes an event for each of these users, at a version above the one named: the user's state, or
/// the deletion of one that is not there. Users whose own version is too low are raised first. The
/// relay does the same for users of whom the stream has more than the ledger (`restate_users`).
pub(crate) async fn restate(pool: &Pool, wanted: &[Wanted]) -> sqlx::Result<Restated> {
    let user_ids: Vec<_> = wanted.iter().map(|it| it.user_id).collect();
    let above: Vec<_> = wanted.iter().map(|it| it.above).collect();
    let restated = sqlx::query_as!(
        Counts,
        r#"
        select count(*) filter (where outcome = 'published') as "published!",
               count(*) filter (where outcome = 'maybe_in_creation') as "maybe_in_creation!",
               count(*) filter (where outcome = 'out_of_reach') as "out_of_reach!"
        from restate_each($1, $2)
        "#,
        &user_ids,
        &above,
    );
    let restated = Restated::from(restated.fetch_one(pool).await?);
    if restated.maybe_in_creation > 0 || restated.out_of_reach > 0 {
        let Restated {
            maybe_in_creation,
            out_of_reach,
            ..
        } = restated;
        tracing::warn!(
            maybe_in_creation,
            out_of_reach,
            "users who are not there were not published as deleted"
        );
    }
    Ok(restated)
}

struct Counts {
    published: i64,
    maybe_in_creation: i64,
    out_of_reach: i64,
}

impl From<Counts> for Restated {
    fn from(counts: Counts) -> Self {
        Self {
            published: counts.published.unsigned_abs(),
            maybe_in_creation: counts.maybe_in_creation.unsigned_abs(),
            out_of_reach: counts.out_of_reach.unsigned_abs(),
        }
    }
}
