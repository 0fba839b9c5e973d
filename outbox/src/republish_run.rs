//! Runs that publish the present state of all aggregates again. Once all events of one are on the
//! stream, the messages from its beginning on are enough to build a whole copy, and the relay says so
//! in the stream's metadata.

use postgres_pool::Pool;

/// A run that has begun.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    id: i64,
    stream_sequence: i64,
}

/// What has become of a run whose events are all written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Events of it wait for the relay.
    Pending,
    /// The stream is complete from where the run began.
    Published,
    /// The stream has lost events meanwhile.
    Lost,
}

/// # Errors
/// If Postgres can't be reached.
pub async fn begin(pool: &Pool, stream: &str) -> sqlx::Result<Run> {
    // No relay may have run yet.
    sqlx::query!(
        r"
        insert into outbox.cursor (stream, complete_from)
        select $1, case when ledger_from = 1 then 1 end from outbox.ledger
        on conflict (stream) do nothing
        ",
        stream,
    )
    .execute(pool)
    .await?;
    sqlx::query_as!(
        Run,
        r"
        with forgotten as (
            delete from outbox.republish_run
            where started_at < clock_timestamp() - interval '30 days'
        )
        insert into outbox.republish_run (stream, stream_sequence)
        select stream, stream_sequence from outbox.cursor where stream = $1
        returning id, stream_sequence
        ",
        stream,
    )
    .fetch_one(pool)
    .await
}

/// The latest run that was broken off and came as far as `key`, in the service's own numbers; `None`
/// if there is none: aggregates between would be missing.
///
/// # Errors
/// If Postgres can't be reached.
pub async fn resume(pool: &Pool, stream: &str, key: i64) -> sqlx::Result<Option<Run>> {
    sqlx::query_as!(
        Run,
        r"
        select id, stream_sequence from outbox.republish_run
        where stream = $1 and last_key >= $2 and last_id is null order by id desc limit 1
        ",
        stream,
        key,
    )
    .fetch_optional(pool)
    .await
}

/// The run has written everything up to this key.
///
/// # Errors
/// If Postgres can't be reached.
pub async fn advance(pool: &Pool, run: Run, last_key: i64) -> sqlx::Result<()> {
    sqlx::query!(
        "update outbox.republish_run set last_key = greatest(last_key, $2) where id = $1",
        run.id,
        last_key,
    )
    .execute(pool)
    .await
    .map(drop)
}

/// The run has written everything that there is.
///
/// # Errors
/// If Postgres can't be reached.
pub async fn finish(pool: &Pool, run: Run) -> sqlx::Result<()> {
    sqlx::query!(
        r"
        update outbox.republish_run set last_id = (select last_value from outbox.event_id_seq)
        where id = $1
        ",
        run.id,
    )
    .execute(pool)
    .await
    .map(drop)
}

/// The relay removes a run once its events are on the stream, or if the stream loses events.
///
/// # Errors
/// If Postgres can't be reached.
pub async fn progress(pool: &Pool, stream: &str, run: Run) -> sqlx::Result<Progress> {
    let seen = sqlx::query!(
        r#"
        select exists (select from outbox.republish_run where id = $2) as "is_open!",
               coalesce(complete_from > $3, false) as "is_complete!"
        from outbox.cursor where stream = $1
        "#,
        stream,
        run.id,
        run.stream_sequence,
    )
    .fetch_optional(pool)
    .await?;
    Ok(match seen {
        Some(seen) if seen.is_open => Progress::Pending,
        Some(seen) if seen.is_complete => Progress::Published,
        // The cursor may be gone as well, by an operator's hand.
        _ => Progress::Lost,
    })
}
