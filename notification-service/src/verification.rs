//! The verification in the background: the copy is compared with the users again and again, by one
//! process at a time.
//!
//! What is known is kept beside the copy, so that all processes tell the same, and that a pass whose
//! process has died is continued by another one.

mod api;
mod known;
mod ranges;
mod reason;
mod state;

use std::time::Duration;

use anyhow::{Context, bail};
use backon::BackoffBuilder;
use chrono::Utc;
use event_consumer::{Lag, holes::Position};
use service_runtime::{backoff, progress::Progress};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) use self::{
    api::{Shown, router},
    known::Known,
};
use self::{
    reason::Reason,
    state::{Pass, PassError, State},
};
use crate::{
    config::VerificationSettings,
    metrics::VerificationMetrics,
    mongo::Failure,
    notifications::{Copy, Pace},
    projection::{Lease, MongoPositionStore, Projection, StateStore},
    verify::{ApiClient, Copies, Judge, Verifier},
};

pub(crate) type Store = StateStore<State>;

/// What the lease is called by.
const WORK: &str = "verification";
/// Users that are looked at at once.
const CONCURRENCY: usize = 2;
/// How often a process looks whether a pass is due, or another process has left one.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
const MAX_RETRY_DELAY: Duration = Duration::from_mins(1);

/// What the task works with.
pub(crate) struct Verification {
    users: ApiClient,
    settings: VerificationSettings,
    copy: Copy,
    projection: Projection,
    positions: MongoPositionStore,
    store: Store,
    lag: Lag,
    metrics: VerificationMetrics,
}

impl Verification {
    /// # Errors
    /// If a client for `users` can't be made.
    pub(crate) fn new(
        users: &str,
        settings: VerificationSettings,
        copy: Copy,
        projection: Projection,
        positions: MongoPositionStore,
        store: Store,
        lag: Lag,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            users: ApiClient::users(users, settings.verify_users_token.clone())?,
            settings,
            copy,
            projection,
            positions,
            store,
            lag,
            metrics: VerificationMetrics::new(),
        })
    }

    /// Verifies until `shutdown`.
    pub(crate) async fn run(
        self,
        progress: Progress,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let retries = || backoff::unbounded().with_max_delay(MAX_RETRY_DELAY).build();
        let mut delays = None;
        let mut reason = None;
        while !shutdown.is_cancelled() {
            let pause = match self.turn(&progress, &shutdown).await {
                Ok(pause) => {
                    if delays.take().is_some() {
                        reason = None;
                        tracing::info!("the verification goes on");
                    }
                    pause
                }
                Err(error) => {
                    self.metrics.failures.increment(1);
                    let before = reason.replace(Reason::of(&error));
                    if before != reason {
                        let error = format!("{error:#}");
                        tracing::warn!(error, "the verification is held up");
                    }
                    let delay = delays.get_or_insert_with(retries).next();
                    delay.unwrap_or(MAX_RETRY_DELAY)
                }
            };
            let resting = progress.rest(pause);
            shutdown.run_until_cancelled(resting).await;
        }
        Ok(())
    }

    /// Does what is due, unless another process does it; how long there is nothing to do then.
    async fn turn(
        &self,
        progress: &Progress,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Duration> {
        let rest = self.store.load().await?.rest(self.settings.verify_every);
        if !rest.is_zero() {
            return Ok(rest.min(LOOK_INTERVAL));
        }
        let owner = Uuid::now_v7().simple().to_string();
        let Some(lease) = self.projection.lease(WORK, &owner).await? else {
            return Ok(LOOK_INTERVAL.min(self.settings.verify_every));
        };
        let outcome = tokio::select! {
            outcome = self.pass(&owner, progress) => outcome,
            lost = lease.keep() => Err(lost),
            () = shutdown.cancelled() => Ok(()),
        };
        release(&lease).await;
        outcome.map(|()| Duration::ZERO)
    }

    /// Begins a pass, or goes on with the one that was left.
    async fn pass(&self, owner: &str, progress: &Progress) -> anyhow::Result<()> {
        let mut state = self.store.claim(owner).await?;
        // Another process may have ended it before the lease was free.
        if !state.rest(self.settings.verify_every).is_zero() {
            return Ok(());
        }
        let outcome = self.compare_all(&mut state, owner, progress).await;
        state.last_error = outcome.as_ref().err().map(|error| PassError {
            at: Utc::now(),
            error: Reason::of(error),
        });
        outcome.and(self.save(&state, owner).await)
    }

    async fn compare_all(
        &self,
        state: &mut State,
        owner: &str,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        if state.pass.is_none() {
            let position = self.positions.position().await?;
            state.holes_found = has_holes(&position).then_some(position.found);
            state.pass = Some(Pass::begin());
            self.save(state, owner).await?;
        }
        let verifier = self.verifier(progress);
        let judge = Judge {
            settle: self.settings.verify_settle,
            repairs: self.settings.verify_repair,
            lag: Some(self.lag.clone()),
        };
        let mut put_off = 0;
        loop {
            let compared = verifier.compare(state.next()).await?;
            let compared = compared.context(Reason::NoDigests)?;
            let verdict = judge.judge(&verifier, &compared.suspects).await?;
            put_off += verdict.put_off;
            self.metrics.repaired.increment(verdict.repaired as u64);
            state.take(&compared, verdict);
            state.last_error = None;
            if compared.is_last() {
                if put_off > 0 {
                    let users = put_off;
                    tracing::warn!(
                        users,
                        "differing users were not published again: the copy is behind the stream"
                    );
                }
                return self.end(state).await;
            }
            self.save(state, owner).await?;
        }
    }

    fn verifier(&self, progress: &Progress) -> Verifier {
        Verifier {
            users: self.users.clone(),
            copies: Copies::Stored(self.copy.clone()),
            pace: Pace::new(progress.clone(), self.settings.verify_rate),
            concurrency: CONCURRENCY,
        }
    }

    /// Agreement makes up for the events that the copy was known to miss when the pass began.
    async fn end(&self, state: &mut State) -> anyhow::Result<()> {
        let remaining = state.pass.as_ref().map_or(0, |pass| pass.remaining);
        if remaining == 0
            && let Some(found) = state.holes_found
            && !self.positions.clear(Some(&[found])).await?
        {
            tracing::warn!("more events were found missing during the verification");
        }
        state.end_pass().log();
        Ok(())
    }

    async fn save(&self, state: &State, owner: &str) -> anyhow::Result<()> {
        match self.store.save(owner, state).await? {
            true => Ok(()),
            false => bail!("another process has taken the verification over"),
        }
    }
}

fn has_holes(position: &Position) -> bool {
    !position.holes.is_empty()
}

async fn release(lease: &Lease) {
    let released: Result<(), Failure> = lease.release().await;
    if let Err(failure) = released {
        tracing::warn!(%failure, "the lease of the verification ends by itself");
    }
}
