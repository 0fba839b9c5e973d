//! Computes the normal form of e-mail addresses that older releases wrote: those that were there
//! before the column, and those that such a release still writes during a rolling upgrade.

use std::{collections::HashSet, time::Duration};

use postgres_pool::Pool;
use service_runtime::progress::Progress;
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::{
    email::normal_form,
    store::{
        has_code, is_old_schema,
        normal_emails::{self, Normalized, Unnormalized},
    },
};

/// Few enough to hold up nobody.
const BATCH: u16 = 500;
/// Leaves Postgres to others in between.
const BATCH_PAUSE: Duration = Duration::from_millis(10);
/// Between two looks for what older releases have written since.
const PASS_PAUSE: Duration = Duration::from_secs(5);
const RETRY_PAUSE: Duration = Duration::from_secs(1);
const PROGRESS_EVERY: u64 = 100_000;
/// Users that are logged one by one, because somebody has to decide on them.
const MAX_REPORTED: usize = 1000;

/// Runs until `shutdown`. What fails is tried again.
pub(crate) async fn backfill(
    pool: Pool,
    progress: Progress,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let mut reported = Reported::default();
    let passes = async {
        loop {
            let pause = match pass(&pool, &mut reported, &progress).await {
                Ok(()) => PASS_PAUSE,
                Err(error) => {
                    if !is_old_schema(&error) {
                        tracing::warn!(%error, "could not normalize e-mail addresses; trying again");
                    }
                    RETRY_PAUSE
                }
            };
            progress.rest(pause).await;
        }
    };
    shutdown.run_until_cancelled(passes).await;
    Ok(())
}

/// Looks at each user without a normal form once.
async fn pass(pool: &Pool, reported: &mut Reported, progress: &Progress) -> sqlx::Result<()> {
    let (mut after, mut set) = (0, 0);
    loop {
        progress.attempted();
        let batch = normal_emails::missing(pool, after, BATCH).await?;
        let Some(last) = batch.last() else { break };
        after = last.id;
        let set_before = set;
        set += normalize(pool, &batch, reported).await?;
        if set / PROGRESS_EVERY > set_before / PROGRESS_EVERY {
            tracing::info!(users = set, "normalizing e-mail addresses");
        }
        time::sleep(BATCH_PAUSE).await;
    }
    if set > 0 {
        tracing::info!(users = set, "normalized e-mail addresses");
    }
    Ok(())
}

/// How many got their normal form.
async fn normalize(
    pool: &Pool,
    batch: &[Unnormalized],
    reported: &mut Reported,
) -> sqlx::Result<u64> {
    let mut users = Vec::with_capacity(batch.len());
    for user in batch {
        match normal_form::of(&user.email) {
            Some(normal) => users.push((user, normal)),
            None => reported.unusable(user.id),
        }
    }
    let mut set = 0;
    for Normalized { id, is_set, holder } in set_what_is_free(pool, &users).await? {
        set += u64::from(is_set);
        if let Some(holder) = holder {
            reported.collision(id, holder);
        }
    }
    Ok(set)
}

/// One by one if somebody is taking one of the addresses at this moment; theirs waits for the next
/// pass.
async fn set_what_is_free(
    pool: &Pool,
    users: &[(&Unnormalized, String)],
) -> sqlx::Result<Vec<Normalized>> {
    match normal_emails::set(pool, users).await {
        Err(error) if is_conflict(&error) => {}
        set => return set,
    }
    let mut set = Vec::with_capacity(users.len());
    for user in users {
        match normal_emails::set(pool, std::slice::from_ref(user)).await {
            Ok(one) => set.extend(one),
            Err(error) if is_conflict(&error) => {
                tracing::debug!(user_id = user.0.id, "an e-mail address is being taken");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(set)
}

/// Users who have been logged: each once in the life of the process.
#[derive(Debug, Default)]
struct Reported(HashSet<i64>);

impl Reported {
    fn is_new(&mut self, id: i64) -> bool {
        self.0.len() < MAX_REPORTED && self.0.insert(id)
    }

    fn unusable(&mut self, user_id: i64) {
        if self.is_new(user_id) {
            tracing::warn!(
                user_id,
                "the domain of a user's e-mail address is not valid: change it"
            );
        }
    }

    fn collision(&mut self, user_id: i64, other_user_id: i64) {
        if self.is_new(user_id) {
            tracing::warn!(
                user_id,
                other_user_id,
                "two users have the same e-mail address in different spellings: change one of them"
            );
        }
    }
}

/// The address is locked, or was taken just now: unique violation, deadlock, lock timeout.
fn is_conflict(error: &sqlx::Error) -> bool {
    has_code(error, &["23505", "40P01", "55P03"])
}
