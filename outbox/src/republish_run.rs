//! Runs of `republish --all`: once all events of one are on the stream, the stream holds every
//! user again, and the relay says so.

use postgres_pool::Pool;

/// A run that has begun.
#[derive(Debug, Clone, Copy, sqlx::FromRow)]
pub struct Run {
    id: i64,
    stream_sequence: i64,
}

/// What has become of a run whose users are all written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Events of it wait for the relay.
    Pending,
    /// The stream holds every user.
    Published,
    /// The stream has lost events meanwhile.
    Lost,
}

pub async fn begin(pool: &Pool) -> sqlx::Result<Run> {
    sqlx::query_as(
        r"
        with forgotten as (
            delete from republish_run where started_at < clock_timestamp() - interval '30 days'
        )
        insert into republish_run (stream_sequence) select stream_sequence from relay_cursor
        returning id, stream_sequence
        ",
    )
    .fetch_one(pool)
    .await
}

/// The latest run that was broken off and came as far as the user `since`; `None` if there is
/// none: users between would be missing.
pub async fn resume(pool: &Pool, since: i64) -> sqlx::Result<Option<Run>> {
    sqlx::query_as(
        r"
        select id, stream_sequence from republish_run
        where last_user_id >= $1 and last_outbox_id is null order by id desc limit 1
        ",
    )
    .bind(since)
    .fetch_optional(pool)
    .await
}

/// The run has written all users up to this one.
pub async fn advance(pool: &Pool, run: Run, last_user_id: i64) -> sqlx::Result<()> {
    sqlx::query("update republish_run set last_user_id = greatest(last_user_id, $2) where id = $1")
        .bind(run.id)
        .bind(last_user_id)
        .execute(pool)
        .await
        .map(drop)
}

/// The run has written all users that there are.
pub async fn finish(pool: &Pool, run: Run) -> sqlx::Result<()> {
    sqlx::query(
        r"
        update republish_run set last_outbox_id = (select last_value from outbox_id_seq)
        where id = $1
        ",
    )
    .bind(run.id)
    .execute(pool)
    .await
    .map(drop)
}

/// The relay removes a run once its events are on the stream, or if the stream loses events.
pub async fn progress(pool: &Pool, run: Run) -> sqlx::Result<Progress> {
    let (is_open, is_complete): (bool, bool) = sqlx::query_as(
        r"
        select exists (select from republish_run where id = $1),
               coalesce(complete_from > $2, false)
        from relay_cursor
        ",
    )
    .bind(run.id)
    .bind(run.stream_sequence)
    .fetch_one(pool)
    .await?;
    Ok(match (is_open, is_complete) {
        (true, _) => Progress::Pending,
        (false, true) => Progress::Published,
        (false, false) => Progress::Lost,
    })
}
