//! What all processes tell of the verification, whether they verify or not.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use service_runtime::{metrics, progress::Progress};
use tokio::{
    sync::watch,
    time::{self, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{State, Store};
use crate::metrics::{DIFFERENCES, VERIFICATION_AGE};

const INTERVAL: Duration = Duration::from_secs(5);

/// The last look at what is kept beside the copy; nothing while MongoDB does not answer.
#[derive(Debug, Clone)]
pub(crate) struct Known(watch::Sender<Option<Sample>>);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// When the last pass that has compared all users began: all that was written before was
    /// compared.
    pub(crate) last_began_at: Option<DateTime<Utc>>,
    /// The users who differed at its end.
    pub(crate) differences: Option<u64>,
}

impl Default for Known {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Known {
    pub(crate) fn sample(&self) -> Option<Sample> {
        *self.0.borrow()
    }

    /// Looks every five seconds.
    ///
    /// # Errors
    /// Never: it has the form of a task.
    pub(crate) async fn observe(
        self,
        store: Store,
        verifies: bool,
        progress: Progress,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        self.clone().show(verifies);
        let mut ticks = time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let observing = async {
            loop {
                ticks.tick().await;
                progress.attempted();
                let state = store.load().await;
                if let Err(failure) = &state {
                    tracing::debug!(%failure, "the state of the verification is not known");
                }
                self.0.send_replace(state.ok().as_ref().map(Sample::of));
            }
        };
        shutdown.run_until_cancelled(observing).await;
        Ok(())
    }

    /// Has the gauges tell it.
    fn show(self, verifies: bool) {
        let since = verifies.then(Utc::now);
        let (age, differences) = (VERIFICATION_AGE.with([]), DIFFERENCES.with([]));
        metrics::on_scrape(move || {
            let sample = self.sample();
            let last = sample.and_then(|it| it.last_began_at.or(since));
            age.set(last.map_or(f64::NAN, |last| seconds(Utc::now() - last)));
            let count = sample.and_then(|it| it.differences);
            differences.set(count.map_or(f64::NAN, |count| count as f64));
        });
    }
}

impl Sample {
    fn of(state: &State) -> Self {
        let last = state.last_pass.as_ref();
        Self {
            last_began_at: last.map(|pass| pass.began_at),
            differences: last.map(|pass| pass.remaining),
        }
    }
}

fn seconds(age: TimeDelta) -> f64 {
    age.to_std().unwrap_or_default().as_secs_f64()
}
