//! Having aggregates restated by the functions that are registered for their types.

mod store;

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, sleep};

pub(super) use self::store::{is_due, report_without_function};
use super::Lookup;
use crate::relay::{decisions, failure::Failure};

/// How long publishing waits for aggregates that a function leaves out, or does not get a lock for:
/// somebody may be writing them. The time in which others are restated does not count.
const PATIENCE: Duration = Duration::from_secs(20);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Of one type, each with its version.
struct Batch {
    aggregate_type: String,
    aggregate_ids: Vec<String>,
    versions: Vec<Option<i64>>,
}

/// What became of those that were asked for.
#[derive(Default)]
struct Tally {
    restated: usize,
    left_out: usize,
    /// For those that were left out.
    waited: Duration,
    /// By type: how many failed, and the first of them with the reason.
    failed: BTreeMap<String, (usize, String, String)>,
}

impl Tally {
    fn is_out_of_patience(&self) -> bool {
        self.waited >= PATIENCE
    }
}

/// Which aggregates are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// Publishing waits for them.
    New,
    /// Those that were left out some time ago.
    Again,
}

/// Restates what can be. Publishing waits for it, since it fixes which events are superseded.
pub(super) async fn all(lookup: Lookup<'_>) -> Result<(), Failure> {
    let mut tally = Tally::default();
    let mut pause = FIRST_PAUSE;
    loop {
        tally.left_out = 0;
        round(lookup, Ask::New, &mut tally).await?;
        if tally.is_out_of_patience() {
            store::give_up(lookup).await?;
            break;
        }
        if tally.left_out == 0 {
            break;
        }
        lookup.progress.attempted();
        sleep(pause).await;
        tally.waited += pause;
        pause = LONGEST_PAUSE.min(2 * pause);
    }
    report(lookup, &tally);
    Ok(())
}

/// Asks again for those that were left out, while publishing goes on: what is appended now comes after
/// all that it supersedes.
pub(super) async fn again(lookup: Lookup<'_>) -> Result<(), Failure> {
    let mut tally = Tally::default();
    round(lookup, Ask::Again, &mut tally).await?;
    report(lookup, &tally);
    Ok(())
}

fn report(lookup: Lookup<'_>, tally: &Tally) {
    let stream = &lookup.owned.stream;
    if tally.restated > 0 {
        lookup.metrics.restated.increment(tally.restated as u64);
        tracing::info!(
            stream,
            aggregates = tally.restated,
            "restated the aggregates of events that the database does not have"
        );
    }
    for (aggregate_type, (aggregates, first, reason)) in &tally.failed {
        tracing::error!(
            stream,
            aggregate_type,
            aggregates,
            first_aggregate_id = first,
            reason,
            "aggregates could not be restated: consumers keep what the database does not have. \
             `outbox-relay orphans` lists them"
        );
    }
}

/// Asks once for each aggregate, unless too many are left out.
async fn round(lookup: Lookup<'_>, ask: Ask, tally: &mut Tally) -> Result<(), Failure> {
    for aggregate_type in store::types(lookup, ask).await? {
        let mut after = String::new();
        while !tally.is_out_of_patience() {
            let batch = store::next(lookup, ask, &aggregate_type, &after).await?;
            let Some(last) = batch.aggregate_ids.last() else {
                break;
            };
            after.clone_from(last);
            attempt(lookup, batch, tally).await?;
            lookup.progress.attempted();
        }
    }
    Ok(())
}

/// One that the function fails for, or does not end for, must not hold up the others: the batch is
/// halved until it is alone.
async fn attempt(lookup: Lookup<'_>, batch: Batch, tally: &mut Tally) -> Result<(), Failure> {
    let mut batches = vec![batch];
    while let Some(batch) = batches.pop() {
        if tally.is_out_of_patience() {
            tally.left_out += batch.aggregate_ids.len();
            continue;
        }
        let begun_at = Instant::now();
        let error = match restate(lookup, &batch).await {
            Ok(restated) => {
                tally.restated += restated;
                if restated < batch.aggregate_ids.len() {
                    tally.waited += begun_at.elapsed();
                    tally.left_out += batch.aggregate_ids.len() - restated;
                    store::leave_out(lookup, &batch).await?;
                }
                continue;
            }
            Err(Failure::Database(error)) => error,
            Err(failure) => return Err(failure),
        };
        match Fault::of(&error) {
            None => return Err(error.into()),
            Some(Fault::Function(reason)) => {
                let failed = store::fail_type(lookup, &batch, &reason).await?;
                tally.fail(batch, failed, reason);
                return Ok(());
            }
            Some(Fault::Aggregate(reason)) => match batch.halved() {
                Ok(halves) => batches.extend(halves),
                Err(batch) => {
                    store::fail(lookup, &batch, &reason).await?;
                    tally.fail(batch, 1, reason);
                }
            },
            Some(Fault::Busy) => {
                tally.waited += begun_at.elapsed();
                match batch.halved() {
                    Ok(halves) => batches.extend(halves),
                    Err(batch) => {
                        tally.left_out += 1;
                        store::leave_out(lookup, &batch).await?;
                    }
                }
            }
        }
    }
    Ok(())
}

impl Tally {
    fn fail(&mut self, batch: Batch, aggregates: usize, reason: String) {
        let first = || {
            let id = batch.aggregate_ids.into_iter().next();
            (0, id.unwrap_or_default(), reason)
        };
        let failed = self.failed.entry(batch.aggregate_type);
        failed.or_insert_with(first).0 += aggregates;
    }
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
/// was written before can have a higher id than is given out by then: the function holds whoever writes
/// one. Others may wait for the cursor, so it is held last.
async fn restate(lookup: Lookup<'_>, batch: &Batch) -> Result<usize, Failure> {
    let mut transaction = lookup.pool.begin().await?;
    let restated = sqlx::query_scalar!(
        r#"select restated as "aggregate_id?" from outbox.restate($1, $2, $3) as restated"#,
        batch.aggregate_type,
        &batch.aggregate_ids,
        &batch.versions as &[Option<i64>],
    )
    .fetch_all(&mut *transaction)
    .await?;
    let restated: Vec<_> = restated.into_iter().flatten().collect();
    lookup.owned.hold(&mut transaction).await?;
    // A higher version may have been found meanwhile.
    let noted = sqlx::query!(
        r"
        update outbox.orphan
        set restated_at = clock_timestamp(), error = null, retry_at = null,
            superseded_through = (select last_value from outbox.event_id_seq)
        from unnest($3::text[], $4::bigint[]) as asked (aggregate_id, version)
        where stream = $1 and aggregate_type = $2 and orphan.aggregate_id = asked.aggregate_id
            and orphan.version is not distinct from asked.version
            and asked.aggregate_id = any ($5)
        ",
        lookup.owned.stream,
        batch.aggregate_type,
        &batch.aggregate_ids,
        &batch.versions as &[Option<i64>],
        &restated,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    for (id, version) in batch.aggregate_ids.iter().zip(&batch.versions) {
        if restated.contains(id) {
            decisions::restated(lookup.owned, &batch.aggregate_type, id, *version);
        }
    }
    Ok(usize::try_from(noted.rows_affected()).unwrap_or(usize::MAX))
}

/// Why the function did not return.
enum Fault {
    /// It will never succeed for any.
    Function(String),
    /// It will never succeed for one of these.
    Aggregate(String),
    /// No lock, or no time.
    Busy,
}

impl Fault {
    /// `None` if it is not about the function.
    fn of(error: &sqlx::Error) -> Option<Self> {
        let error = error.as_database_error()?;
        let code = error.code()?;
        let reason = || format!("{} ({code})", error.message());
        match (code.as_ref(), code.get(..2)?) {
            ("55P03" | "57014", _) => Some(Self::Busy),
            (_, "42") => Some(Self::Function(reason())),
            (_, "22" | "23" | "2F" | "38" | "39" | "P0") => Some(Self::Aggregate(reason())),
            _ => None,
        }
    }
}
