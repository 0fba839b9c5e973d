//! One look a second at both ends of a stream, for all that has to notice what changes there.
//!
//! ```text
//! look: the cursor in Postgres, then the stream's info
//!   ├─► claim: whether this database is still the one that publishes
//!   ├─► stream_check: acknowledged events that are gone
//!   ├─► stream_loss: messages that are missing        ┐
//!   ├─► orphans: messages of others                   ├ beside it, each at its own pace
//!   └─► completeness: what the metadata should say    ┘
//! ```

mod store;

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::stream::Info;
use futures::TryFutureExt;
use service_runtime::nats::stream::{LedgerIdentity, StreamMetadata};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

pub(super) use self::store::{Beginning, Saved, load};
use super::{
    claim::{CHECK_INTERVAL, Claim},
    failure::Failure,
    stream_check, stream_info,
};
use crate::metrics::StreamMetrics;

/// After so long without an answer the stream can't be had. (One that does not come takes three
/// seconds.)
const PATIENCE: Duration = Duration::from_secs(4);
/// How often the message of the last acknowledged event is looked at as well.
const TAIL_INTERVAL: Duration = Duration::from_secs(5);
/// When a step takes longer than this, the claim is looked at beside it. With two such steps and the pause
/// between looks, a takeover is still seen in less time than the other relay waits for that.
const CLAIM_PATIENCE: Duration = Duration::from_millis(300);

/// What one look saw.
#[derive(Debug)]
pub(super) struct Sight {
    /// Asked before the stream: what came to stand there later is not taken for missing.
    pub(super) saved: Saved,
    pub(super) info: Info,
}

/// For one of those who are told what is seen.
#[derive(Debug, Clone)]
pub(super) struct Sights(watch::Receiver<Option<Arc<Sight>>>);

impl Sights {
    /// The latest that was not seen yet.
    pub(super) async fn next(&mut self) -> Arc<Sight> {
        loop {
            if self.0.changed().await.is_err() {
                // The session is on its way down.
                std::future::pending::<()>().await;
            }
            if let Some(sight) = self.0.borrow_and_update().clone() {
                return sight;
            }
        }
    }
}

/// Looks until something is not as it should be.
pub(super) struct Looker(watch::Sender<Option<Arc<Sight>>>);

impl Looker {
    pub(super) fn new() -> (Self, Sights) {
        let (sender, receiver) = watch::channel(None);
        (Self(sender), Sights(receiver))
    }

    pub(super) async fn run(
        self,
        claim: &Claim<'_>,
        mine: &LedgerIdentity,
        metrics: &StreamMetrics,
    ) -> Failure {
        let mut seen_at = Instant::now();
        let mut tail_seen_at = seen_at;
        loop {
            match look(claim, mine).await {
                Ok(sight) => {
                    metrics.checks.increment(1);
                    seen_at = Instant::now();
                    let is_tail_due = tail_seen_at.elapsed() >= TAIL_INTERVAL;
                    let checking = check(&sight, claim, mine, is_tail_due);
                    if let Err(failure) = while_claimed(claim, mine, checking).await {
                        return failure;
                    }
                    if is_tail_due {
                        tail_seen_at = seen_at;
                    }
                    self.0.send_replace(Some(Arc::new(sight)));
                }
                Err(failure @ Failure::JetStream(_)) if seen_at.elapsed() < PATIENCE => {
                    tracing::debug!(%failure, "the stream was not looked at; trying again");
                }
                Err(failure) => return failure,
            }
            sleep(CHECK_INTERVAL).await;
        }
    }
}

async fn look(claim: &Claim<'_>, mine: &LedgerIdentity) -> Result<Sight, Failure> {
    let stream = &claim.owned.stream;
    let loading = load(claim.pool, stream).map_err(Failure::from);
    let saved = while_claimed(claim, mine, loading).await?;
    let info = stream_info::info(claim.jetstream, stream).await?;
    Ok(Sight { saved, info })
}

/// Does this step, or fails as soon as another relay has taken the stream over: Postgres may be slow just
/// because it is no longer the one in use.
async fn while_claimed<T>(
    claim: &Claim<'_>,
    mine: &LedgerIdentity,
    step: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        done = step => done,
        failure = taken_over(claim, mine) => Err(failure),
    }
}

async fn taken_over(claim: &Claim<'_>, mine: &LedgerIdentity) -> Failure {
    loop {
        sleep(CLAIM_PATIENCE).await;
        let info = stream_info::info(claim.jetstream, &claim.owned.stream).await;
        match info.and_then(|info| claim.check(mine, &StreamMetadata::of(&info))) {
            // Whether the stream can be had is for the next look to say.
            Ok(()) | Err(Failure::JetStream(_)) => {}
            Err(failure) => return failure,
        }
    }
}

/// What must not go on for a second.
async fn check(
    sight: &Sight,
    claim: &Claim<'_>,
    mine: &LedgerIdentity,
    is_tail_due: bool,
) -> Result<(), Failure> {
    let Sight { saved, info } = sight;
    claim.check(mine, &StreamMetadata::of(info))?;
    if saved.is_sequence_behind {
        return Err(Failure::SequenceBehind);
    }
    if saved.is_sequence_cached {
        return Err(Failure::SequenceCached);
    }
    let is_whole = match is_tail_due {
        true => stream_check::has(claim.jetstream, info, saved.tail).await?,
        false => stream_check::reaches(info, saved.tail),
    };
    match is_whole {
        true => Ok(()),
        false => Err(Failure::StreamChanged),
    }
}

#[cfg(test)]
mod tests;
