//! Having aggregates restated by the functions that are registered for their types.

use std::{collections::BTreeSet, time::Duration};

use postgres_pool::Pool;
use tokio::time::{Instant, sleep};

use super::Lookup;
use crate::relay::failure::Failure;

/// Aggregates restated in one transaction.
const BATCH: i64 = 200;
/// How long a function is asked for aggregates that it leaves out: somebody may be writing them.
const PATIENCE: Duration = Duration::from_secs(20);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const LEFT_OUT: &str = "the function that restates this type leaves it out";

/// Of one type, each with its version.
struct Batch {
    aggregate_type: String,
    aggregate_ids: Vec<String>,
    versions: Vec<Option<i64>>,
}

/// What became of a batch.
#[derive(Default)]
struct Done {
    restated: usize,
    left_out: usize,
}

/// Restates what can be. Publishing waits for it, since it fixes which events are superseded.
pub(super) async fn all(lookup: Lookup<'_>) -> Result<(), Failure> {
    let stream = &lookup.owned.stream;
    let give_up_at = Instant::now() + PATIENCE;
    let mut pause = FIRST_PAUSE;
    let mut restated = 0;
    loop {
        let done = round(lookup).await?;
        restated += done.restated;
        if done.left_out == 0 {
            break;
        }
        if Instant::now() >= give_up_at {
            give_up(lookup).await?;
            break;
        }
        lookup.progress.attempted();
        sleep(pause).await;
        pause = LONGEST_PAUSE.min(2 * pause);
    }
    if restated > 0 {
        tracing::info!(
            stream,
            aggregates = restated,
            "restated the aggregates of events that the database does not have"
        );
    }
    Ok(())
}

/// Whether there is something that could be restated now, and could not be before.
pub(super) async fn is_due(pool: &Pool, stream: &str) -> sqlx::Result<bool> {
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

/// Asks once for each aggregate.
async fn round(lookup: Lookup<'_>) -> Result<Done, Failure> {
    let mut done = Done::default();
    for aggregate_type in types(lookup).await? {
        let mut after = String::new();
        loop {
            let batch = next(lookup, &aggregate_type, &after).await?;
            let Some(last) = batch.aggregate_ids.last() else {
                break;
            };
            after.clone_from(last);
            attempt(lookup, batch, &mut done).await?;
            lookup.progress.attempted();
        }
    }
    Ok(done)
}

/// That have a function.
async fn types(Lookup { pool, owned, .. }: Lookup<'_>) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r"
        select aggregate_type from outbox.aggregate
        where exists (
            select from outbox.orphan
            where stream = $1 and orphan.aggregate_type = aggregate.aggregate_type
                and restated_at is null and error is null
        )
        order by aggregate_type
        ",
        owned.stream,
    )
    .fetch_all(pool)
    .await
}

async fn next(lookup: Lookup<'_>, aggregate_type: &str, after: &str) -> sqlx::Result<Batch> {
    let rows = sqlx::query!(
        r#"
        select aggregate_id, version from outbox.orphan
        where stream = $1 and aggregate_type = $2 and aggregate_id > $3
            and restated_at is null and error is null
        order by aggregate_id limit $4
        "#,
        lookup.owned.stream,
        aggregate_type,
        after,
        BATCH,
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

/// One that the function fails for must not hold up the others: the batch is halved until it is alone.
async fn attempt(lookup: Lookup<'_>, batch: Batch, done: &mut Done) -> Result<(), Failure> {
    let mut batches = vec![batch];
    while let Some(batch) = batches.pop() {
        let error = match restate(lookup, &batch).await {
            Ok(restated) => {
                done.restated += restated;
                done.left_out += batch.aggregate_ids.len() - restated;
                continue;
            }
            Err(Failure::Database(error)) => error,
            Err(failure) => return Err(failure),
        };
        let Some(reason) = fault(&error) else {
            return Err(error.into());
        };
        match batch.halved() {
            Ok(halves) => batches.extend(halves),
            Err(batch) => fail(lookup, &batch, &reason).await?,
        }
    }
    Ok(())
}

impl Batch {
    fn halved(mut self) -> Result<[Self; 2], Self> {
        let middle = self.aggregate_ids.len() / 2;
        if middle == 0 {
            return Err(self);
        }
        let second = Self {
            aggregate_type: self.aggregate_type.clone(),
            aggregate_ids: self.aggregate_ids.split_off(middle),
            versions: self.versions.split_off(middle),
        };
        Ok([second, self])
    }
}

/// What the function appends and that it did so are one transaction. No event of these aggregates that
/// was written before can have a higher id than is given out by then: who changes one holds its lock.
async fn restate(lookup: Lookup<'_>, batch: &Batch) -> Result<usize, Failure> {
    let mut transaction = lookup.pool.begin().await?;
    lookup.owned.hold(&mut transaction).await?;
    let restated = sqlx::query_scalar!(
        r#"select restated as "aggregate_id?" from outbox.restate($1, $2, $3) as restated"#,
        batch.aggregate_type,
        &batch.aggregate_ids,
        &batch.versions as &[Option<i64>],
    )
    .fetch_all(&mut *transaction)
    .await?;
    let restated: BTreeSet<_> = restated.into_iter().flatten().collect();
    let restated: Vec<_> = (batch.aggregate_ids.iter())
        .filter(|it| restated.contains(*it))
        .cloned()
        .collect();
    sqlx::query!(
        r"
        update outbox.orphan
        set restated_at = clock_timestamp(),
            superseded_through = (select last_value from outbox.event_id_seq)
        where stream = $1 and aggregate_type = $2 and aggregate_id = any ($3)
        ",
        lookup.owned.stream,
        batch.aggregate_type,
        &restated,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(restated.len())
}

/// Why the function itself refuses; `None` if it may succeed at another time.
fn fault(error: &sqlx::Error) -> Option<String> {
    let error = error.as_database_error()?;
    let code = error.code()?;
    let is_fault = ["22", "23", "2F", "38", "39", "42", "P0"].contains(&code.get(..2)?);
    is_fault.then(|| format!("{} ({code})", error.message()))
}

async fn fail(lookup: Lookup<'_>, batch: &Batch, reason: &str) -> sqlx::Result<()> {
    let stream = &lookup.owned.stream;
    tracing::error!(
        stream,
        aggregate_type = batch.aggregate_type,
        aggregate_id = batch.aggregate_ids.first(),
        reason,
        "an aggregate could not be restated: consumers keep what the database does not have"
    );
    sqlx::query!(
        r"
        update outbox.orphan set error = $4
        where stream = $1 and aggregate_type = $2 and aggregate_id = any ($3)
        ",
        stream,
        batch.aggregate_type,
        &batch.aggregate_ids,
        reason,
    )
    .execute(lookup.pool)
    .await
    .map(drop)
}

async fn give_up(lookup: Lookup<'_>) -> sqlx::Result<()> {
    let stream = &lookup.owned.stream;
    let left_out = sqlx::query!(
        r"
        update outbox.orphan set error = $2
        where stream = $1 and restated_at is null and error is null
            and aggregate_type in (select aggregate_type from outbox.aggregate)
        ",
        stream,
        LEFT_OUT,
    )
    .execute(lookup.pool)
    .await?;
    tracing::error!(
        stream,
        aggregates = left_out.rows_affected(),
        "aggregates could not be restated, since their function leaves them out: consumers keep what \
         the database does not have. `outbox-relay orphans` lists them"
    );
    Ok(())
}

/// Publishing goes on without them.
pub(super) async fn report_without_function(pool: &Pool, stream: &str) -> sqlx::Result<()> {
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
