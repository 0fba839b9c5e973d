//! What the checks have said, no more than a second ago.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::{sync::Mutex, task::JoinSet, time::Instant};

use super::Check;

/// However many ask, each check runs once in this time.
const MAX_AGE: Duration = Duration::from_secs(1);

/// Whether each check has passed, by its name.
pub(crate) type Outcome = BTreeMap<&'static str, bool>;

/// An outcome, and when the checks began to run.
type Dated = (Instant, Arc<Outcome>);

pub(crate) struct Readiness {
    checks: Arc<[Check]>,
    /// Locked while the checks run, so that all who ask meanwhile get the same outcome.
    latest: Mutex<Latest>,
}

#[derive(Default)]
struct Latest {
    outcome: Option<Dated>,
    /// At most one task, whose outcome is kept here if the probe that began it is cancelled: whoever
    /// connects and hangs up would else have the checks run each time.
    run: JoinSet<Dated>,
}

impl Readiness {
    pub(crate) fn new(checks: Vec<Check>) -> Self {
        Self {
            checks: checks.into(),
            latest: Mutex::default(),
        }
    }

    pub(crate) async fn checks(&self) -> Arc<Outcome> {
        let mut latest = self.latest.lock().await;
        // A probe that was cancelled may have begun it.
        latest.finish_run().await;
        if let Some((began, outcome)) = &latest.outcome
            && began.elapsed() < MAX_AGE
        {
            return Arc::clone(outcome);
        }
        let before = latest.outcome.take();
        latest.run.spawn(run(Arc::clone(&self.checks), before));
        latest.finish_run().await;
        let (_, outcome) = latest.outcome.as_ref().expect("a run has an outcome");
        Arc::clone(outcome)
    }
}

impl Latest {
    /// Takes the outcome of the run, if there is one. Loses nothing when it is dropped.
    async fn finish_run(&mut self) {
        match self.run.join_next().await {
            None => {}
            Some(Ok(outcome)) => self.outcome = Some(outcome),
            // Nobody aborts the task, so what ended it early can only be a panic.
            Some(Err(ended)) => std::panic::resume_unwind(ended.into_panic()),
        }
    }
}

/// Runs all checks at once, and logs which of them have changed.
async fn run(checks: Arc<[Check]>, before: Option<Dated>) -> Dated {
    let began = Instant::now();
    let mut outcome = Outcome::new();
    let runs = join_all(checks.iter().map(Check::run)).await;
    for (Check { name, .. }, run) in checks.iter().zip(runs) {
        let passed_before = (before.as_ref()).and_then(|(_, before)| before.get(name));
        match &run {
            Err(error) if passed_before != Some(&false) => {
                tracing::warn!(check = name, error = format!("{error:#}"), "check failed");
            }
            Ok(()) if passed_before == Some(&false) => {
                tracing::info!(check = name, "check recovered");
            }
            _ => {}
        }
        *outcome.entry(name).or_insert(true) &= run.is_ok();
    }
    (began, Arc::new(outcome))
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use futures::{FutureExt, future::join_all};
    use tokio::{
        join,
        sync::Notify,
        task,
        time::{self, Instant},
    };

    use super::{Check, MAX_AGE, Readiness};
    use crate::health::CHECK_DEADLINE;

    /// A check that passes when it is told to.
    #[derive(Default)]
    struct Slow {
        runs: AtomicUsize,
        finish: Notify,
        passed: Notify,
    }

    impl Slow {
        fn readiness(self: &Arc<Self>) -> Readiness {
            let slow = Arc::clone(self);
            let check = move || {
                let slow = Arc::clone(&slow);
                async move {
                    slow.runs.fetch_add(1, Ordering::Relaxed);
                    slow.finish.notified().await;
                    slow.passed.notify_one();
                    Ok(())
                }
            };
            Readiness::new(vec![Check::new("slow", check)])
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_probes_run_a_check_once_a_second() {
        let slow = Arc::new(Slow::default());
        let readiness = slow.readiness();
        for seconds in 1..=3 {
            let probes = join_all((0..1_000).map(|_| readiness.checks()));
            // The probes are polled first: all of them wait.
            let (outcomes, ()) = join!(probes, async { slow.finish.notify_one() });
            assert!(outcomes.iter().all(|outcome| outcome["slow"]));
            assert_eq!(slow.runs.load(Ordering::Relaxed), seconds);
            time::advance(MAX_AGE).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn cancelled_probes_run_a_check_once_and_its_outcome_is_kept() {
        let slow = Arc::new(Slow::default());
        let readiness = slow.readiness();
        for _ in 0..1_000 {
            assert!(readiness.checks().now_or_never().is_none());
            task::yield_now().await;
        }
        slow.finish.notify_one();
        let passed = time::timeout(MAX_AGE, slow.passed.notified()).await;
        passed.expect("the check goes on without a probe");
        assert!(readiness.checks().await["slow"]);
        assert_eq!(slow.runs.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_has_failed_for_the_probe_after_a_cancelled_one() {
        let readiness = Readiness::new(vec![Check::new("hung", pending)]);
        let began = Instant::now();
        let cancelled = time::timeout(CHECK_DEADLINE / 2, readiness.checks()).await;
        cancelled.expect_err("it hangs");
        assert!(!readiness.checks().await["hung"]);
        assert!(began.elapsed() < MAX_AGE, "it was run again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_does_not_answer_has_failed_and_others_have_not() {
        let readiness = Readiness::new(vec![
            Check::new("hung", pending),
            Check::new("fine", || ready(Ok(()))),
            Check::new("twin", || ready(Ok(()))),
            Check::new("twin", || ready(Err(anyhow::anyhow!("broken")))),
        ]);
        let outcome = readiness.checks().await;
        assert!(!outcome["hung"] && outcome["fine"]);
        assert!(!outcome["twin"], "of two with one name, one has failed");
    }
}
