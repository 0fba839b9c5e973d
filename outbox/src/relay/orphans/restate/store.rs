//! Aggregates that wait to be restated, and those that can't be.

use postgres_pool::Pool;

use super::{Ask, Batch};
use crate::relay::orphans::Lookup;

/// Aggregates restated in one transaction.
const BATCH: i64 = 200;
const LEFT_OUT: &str = "the function that restates this type leaves it out, or does not end in time; it is asked again";

/// Whether there is something that could be restated now, and could not be before.
pub(in crate::relay::orphans) async fn is_due(pool: &Pool, stream: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (
            select from outbox.orphan join outbox.aggregate using (aggregate_type)
            where stream = $1 and restated_at is null and error is null
        ) as "is_due!"
        "#,
        stream,
    )
    .fetch_one(pool)
    .await
}

/// That have a function.
pub(super) async fn types(
    Lookup { pool, owned, .. }: Lookup<'_>,
    ask: Ask,
) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r"
        select aggregate_type from outbox.aggregate
        where exists (
            select from outbox.orphan
            where stream = $1 and orphan.aggregate_type = aggregate.aggregate_type
                and restated_at is null
                and case when $2 then retry_at <= clock_timestamp() else error is null end
        )
        order by aggregate_type
        ",
        owned.stream,
        ask == Ask::Again,
    )
    .fetch_all(pool)
    .await
}

pub(super) async fn next(
    lookup: Lookup<'_>,
    ask: Ask,
    aggregate_type: &str,
    after: &str,
) -> sqlx::Result<Batch> {
    let rows = sqlx::query!(
        r#"
        select aggregate_id, version from outbox.orphan
        where stream = $1 and aggregate_type = $2 and aggregate_id > $3
            and restated_at is null
            and case when $5 then retry_at <= clock_timestamp() else error is null end
        order by aggregate_id limit $4
        "#,
        lookup.owned.stream,
        aggregate_type,
        after,
        BATCH,
        ask == Ask::Again,
    )
    .fetch_all(lookup.pool)
    .await?;
    let (aggregate_ids, versions) = (rows.into_iter())
        .map(|row| (row.aggregate_id, row.version))
        .unzip();
    Ok(Batch {
        aggregate_type: aggregate_type.to_owned(),
        aggregate_ids,
        versions,
    })
}

/// Those that have waited before wait longer.
pub(super) async fn leave_out(lookup: Lookup<'_>, batch: &Batch) -> sqlx::Result<()> {
    sqlx::query!(
        r"
        update outbox.orphan
        set retry_at = clock_timestamp()
            + least(greatest(clock_timestamp() - found_at, '1 minute'), '10 minutes')
        where stream = $1 and aggregate_type = $2 and aggregate_id = any ($3)
            and retry_at is not null
        ",
        lookup.owned.stream,
        batch.aggregate_type,
        &batch.aggregate_ids,
    )
    .execute(lookup.pool)
    .await
    .map(drop)
}

pub(super) async fn fail(lookup: Lookup<'_>, batch: &Batch, reason: &str) -> sqlx::Result<()> {
    sqlx::query!(
        r"
        update outbox.orphan set error = $4, retry_at = null
        where stream = $1 and aggregate_type = $2 and aggregate_id = any ($3)
        ",
        lookup.owned.stream,
        batch.aggregate_type,
        &batch.aggregate_ids,
        reason,
    )
    .execute(lookup.pool)
    .await
    .map(drop)
}

/// All that wait for the function; how many.
pub(super) async fn fail_type(
    lookup: Lookup<'_>,
    batch: &Batch,
    reason: &str,
) -> sqlx::Result<usize> {
    let failed = sqlx::query!(
        r"
        update outbox.orphan set error = $3, retry_at = null
        where stream = $1 and aggregate_type = $2 and restated_at is null
            and (error is null or retry_at is not null)
        ",
        lookup.owned.stream,
        batch.aggregate_type,
        reason,
    )
    .execute(lookup.pool)
    .await?;
    Ok(usize::try_from(failed.rows_affected()).unwrap_or(usize::MAX))
}

/// Publishing goes on without them, and they are asked for again meanwhile.
pub(super) async fn give_up(lookup: Lookup<'_>) -> sqlx::Result<()> {
    let stream = &lookup.owned.stream;
    let left_out = sqlx::query!(
        r"
        update outbox.orphan set error = $2, retry_at = clock_timestamp() + interval '1 minute'
        where stream = $1 and restated_at is null and error is null
            and aggregate_type in (select aggregate_type from outbox.aggregate)
        ",
        stream,
        LEFT_OUT,
    )
    .execute(lookup.pool)
    .await?;
    if left_out.rows_affected() == 0 {
        return Ok(());
    }
    tracing::error!(
        stream,
        aggregates = left_out.rows_affected(),
        "aggregates could not be restated yet, since their function leaves them out or does not end: \
         consumers keep what the database does not have. They are asked for again; \
         `outbox-relay orphans` lists them"
    );
    Ok(())
}

/// Publishing goes on without them.
pub(in crate::relay::orphans) async fn report_without_function(
    pool: &Pool,
    stream: &str,
) -> sqlx::Result<()> {
    let types = sqlx::query!(
        r#"
        select aggregate_type, count(*) as "aggregates!" from outbox.orphan
        where stream = $1 and restated_at is null
            and aggregate_type not in (select aggregate_type from outbox.aggregate)
        group by aggregate_type order by aggregate_type limit 100
        "#,
        stream,
    )
    .fetch_all(pool)
    .await?;
    for found in types {
        tracing::error!(
            stream,
            aggregate_type = found.aggregate_type,
            aggregates = found.aggregates,
            "no function restates aggregates of this type: consumers keep what the database does not \
             have. Register one in outbox.aggregate; `outbox-relay orphans` lists them"
        );
    }
    Ok(())
}
