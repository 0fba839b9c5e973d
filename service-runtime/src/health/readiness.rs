//! What the checks have said, no more than a second ago.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::{sync::Mutex, time::Instant};

use super::Check;

/// However many ask, each check runs once in this time.
const MAX_AGE: Duration = Duration::from_secs(1);

/// Whether each check has passed, by its name.
pub(crate) type Outcome = BTreeMap<&'static str, bool>;

pub(crate) struct Readiness {
    checks: Vec<Check>,
    /// Locked while the checks run, so that all who ask meanwhile get the same outcome.
    latest: Mutex<Option<(Instant, Arc<Outcome>)>>,
}

impl Readiness {
    pub(crate) fn new(checks: Vec<Check>) -> Self {
        Self {
            checks,
            latest: Mutex::default(),
        }
    }

    pub(crate) async fn checks(&self) -> Arc<Outcome> {
        let mut latest = self.latest.lock().await;
        if let Some((at, outcome)) = &*latest
            && at.elapsed() < MAX_AGE
        {
            return Arc::clone(outcome);
        }
        let at = Instant::now();
        let before = latest.take();
        let outcome = Arc::new(
            self.run(before.as_ref().map(|(_, outcome)| &**outcome))
                .await,
        );
        *latest = Some((at, Arc::clone(&outcome)));
        outcome
    }

    /// Runs all checks at once, and logs which of them have changed.
    async fn run(&self, before: Option<&Outcome>) -> Outcome {
        let mut outcome = Outcome::new();
        let runs = join_all(self.checks.iter().map(Check::run)).await;
        for (Check { name, .. }, run) in self.checks.iter().zip(runs) {
            let passed_before = before.and_then(|before| before.get(name));
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
        outcome
    }
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

    use futures::future::join_all;
    use tokio::{join, sync::Notify, time};

    use super::{Check, MAX_AGE, Readiness};

    #[tokio::test(start_paused = true)]
    async fn many_probes_run_a_check_once_a_second() {
        let runs = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&runs);
        let finish = Arc::new(Notify::new());
        let finished = Arc::clone(&finish);
        let slow = Check::new("slow", move || {
            count.fetch_add(1, Ordering::Relaxed);
            let finished = Arc::clone(&finished);
            async move {
                finished.notified().await;
                Ok(())
            }
        });
        let readiness = Readiness::new(vec![slow]);
        for seconds in 1..=3 {
            let probes = join_all((0..1_000).map(|_| readiness.checks()));
            // The probes are polled first: all of them wait.
            let (outcomes, ()) = join!(probes, async { finish.notify_one() });
            assert!(outcomes.iter().all(|outcome| outcome["slow"]));
            assert_eq!(runs.load(Ordering::Relaxed), seconds);
            time::advance(MAX_AGE).await;
        }
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
