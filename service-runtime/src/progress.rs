//! Whether a task does its work: for readiness, and for a watchdog that ends a process whose task
//! is stuck.
//!
//! The two differ. A task that cannot reach its server but keeps trying makes *attempts*: it is not
//! ready, and a restart would not help. A task without attempts is stuck.

use std::{
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::ensure;
use tokio::time::{self, Instant, MissedTickBehavior};

use crate::health::Check;

/// How often the watchdog looks, and a task that waits for a server says that it still does.
const INTERVAL: Duration = Duration::from_secs(1);

/// What a task reports of itself. Clones report for the same task.
#[derive(Debug, Clone)]
pub struct Progress(Arc<Reported>);

#[derive(Debug)]
struct Reported {
    task: &'static str,
    created: Instant,
    attempts: AtomicU64,
    /// Milliseconds since `created`, from 1; 0 if never.
    succeeded_at: AtomicU64,
    is_idle: AtomicBool,
}

impl Progress {
    #[must_use]
    pub fn new(task: &'static str) -> Self {
        Self(Arc::new(Reported {
            task,
            created: Instant::now(),
            attempts: AtomicU64::new(0),
            succeeded_at: AtomicU64::new(0),
            is_idle: AtomicBool::new(false),
        }))
    }

    /// The task tries to do its work.
    pub fn attempted(&self) {
        if self.0.is_idle.load(Ordering::Relaxed) {
            // Nothing was owed until now.
            self.succeeded();
        }
        self.0.attempts.fetch_add(1, Ordering::Relaxed);
    }

    /// The task did some of its work, or has found that there is none.
    pub fn succeeded(&self) {
        let elapsed = self.0.created.elapsed().as_millis();
        let now = u64::try_from(elapsed).unwrap_or(u64::MAX).max(1);
        self.0.succeeded_at.store(now, Ordering::Relaxed);
        self.0.attempts.fetch_add(1, Ordering::Relaxed);
        self.0.is_idle.store(false, Ordering::Relaxed);
    }

    /// What the task did has failed: it is not ready before the next success.
    pub fn failed(&self) {
        self.0.succeeded_at.store(0, Ordering::Relaxed);
        self.0.is_idle.store(false, Ordering::Relaxed);
        self.0.attempts.fetch_add(1, Ordering::Relaxed);
    }

    /// From now on the task waits for work, for as long as there is none.
    pub fn idle(&self) {
        self.0.is_idle.store(true, Ordering::Relaxed);
    }

    /// Waits between two rounds of work; nothing is owed meanwhile.
    pub async fn rest(&self, pause: Duration) {
        self.idle();
        time::sleep(pause).await;
        self.attempted();
    }

    /// Awaits what bounds and repeats its attempts by itself, such as waiting for a server.
    pub async fn while_retrying<T>(&self, retrying: impl Future<Output = T>) -> T {
        let attempting = async {
            loop {
                self.attempted();
                time::sleep(INTERVAL).await;
            }
        };
        tokio::select! {
            never = attempting => never,
            value = retrying => value,
        }
    }

    /// Passes while the task is idle, or has succeeded less than `limit` ago.
    #[must_use]
    pub fn check(&self, limit: Duration) -> Check {
        let progress = self.clone();
        Check::new(self.0.task, move || {
            std::future::ready(progress.succeeded_within(limit))
        })
    }

    fn succeeded_within(&self, limit: Duration) -> anyhow::Result<()> {
        if self.0.is_idle.load(Ordering::Relaxed) {
            return Ok(());
        }
        let succeeded_at = self.0.succeeded_at.load(Ordering::Relaxed);
        ensure!(succeeded_at > 0, "no success since it began or failed");
        let succeeded_at = Duration::from_millis(succeeded_at);
        let since = self.0.created.elapsed().saturating_sub(succeeded_at);
        ensure!(since < limit, "no success for {} s", since.as_secs());
        Ok(())
    }
}

/// How long a task may go without an attempt before the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StallTimeout(Option<Duration>);

impl StallTimeout {
    /// Above the longest pause between two attempts of any task, which is a poll interval of a
    /// minute and the deadline of a statement.
    const MIN: Duration = Duration::from_secs(90);
    const MAX: Duration = Duration::from_hours(24);

    pub const OFF: Self = Self(None);
}

impl FromStr for StallTimeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::OFF);
        }
        match humantime::parse_duration(text) {
            Ok(timeout) if (Self::MIN..=Self::MAX).contains(&timeout) => Ok(Self(Some(timeout))),
            Ok(_) => Err("must be from 90s to 24h, or off".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Looks whether tasks make attempts.
#[derive(Debug, Default)]
pub(crate) struct Watchdog {
    watched: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    progress: Progress,
    timeout: Duration,
    attempts: u64,
    silent_for: Duration,
}

impl Watchdog {
    pub(crate) fn watch(&mut self, progress: &Progress, StallTimeout(timeout): StallTimeout) {
        let watched = timeout.map(|timeout| Watched {
            progress: progress.clone(),
            timeout,
            attempts: 0,
            silent_for: Duration::ZERO,
        });
        self.watched.extend(watched);
    }

    /// Waits until a task is stuck; its name, and for how long. Time in which the whole process
    /// was stopped does not count.
    pub(crate) async fn stalled(&mut self) -> (&'static str, Duration) {
        let mut ticks = time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for watched in &mut self.watched {
                if watched.is_stalled() {
                    return (watched.progress.0.task, watched.silent_for);
                }
            }
        }
    }
}

impl Watched {
    /// A task that has not begun yet is not stuck.
    fn is_stalled(&mut self) -> bool {
        let Reported {
            attempts, is_idle, ..
        } = &*self.progress.0;
        let attempts = attempts.load(Ordering::Relaxed);
        if attempts == self.attempts && attempts > 0 && !is_idle.load(Ordering::Relaxed) {
            self.silent_for += INTERVAL;
        } else {
            (self.attempts, self.silent_for) = (attempts, Duration::ZERO);
        }
        self.silent_for >= self.timeout
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time;

    use super::{Progress, StallTimeout, Watchdog};

    const LIMIT: Duration = Duration::from_secs(10);

    fn is_ready(progress: &Progress) -> bool {
        progress.succeeded_within(LIMIT).is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_that_fail_are_not_progress() {
        let progress = Progress::new("task");
        assert!(!is_ready(&progress), "it has not begun");
        progress.succeeded();
        time::advance(LIMIT / 2).await;
        assert!(is_ready(&progress));
        progress.attempted();
        time::advance(LIMIT).await;
        assert!(!is_ready(&progress));
        progress.succeeded();
        assert!(is_ready(&progress));
        progress.failed();
        assert!(!is_ready(&progress));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_was_idle_has_its_full_time_for_the_next_piece_of_work() {
        let progress = Progress::new("task");
        progress.idle();
        time::advance(10 * LIMIT).await;
        assert!(is_ready(&progress));
        progress.attempted();
        assert!(is_ready(&progress));
        time::advance(LIMIT).await;
        assert!(!is_ready(&progress));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_retries_is_not_stuck_and_one_that_does_nothing_is() {
        let (retrying, idle, unborn, stuck) = (
            Progress::new("retrying"),
            Progress::new("idle"),
            Progress::new("unborn"),
            Progress::new("stuck"),
        );
        let mut watchdog = Watchdog::default();
        let timeout = "2min".parse().expect("a timeout");
        for progress in [&retrying, &idle, &unborn, &stuck] {
            watchdog.watch(progress, timeout);
        }
        idle.attempted();
        idle.idle();
        let stalled = time::timeout(Duration::from_hours(1), watchdog.stalled());
        let stalled = retrying.while_retrying(stalled).await;
        stalled.expect_err("nobody is stuck");
        stuck.attempted();
        let (name, silent_for) = retrying.while_retrying(watchdog.stalled()).await;
        assert_eq!((name, silent_for), ("stuck", Duration::from_mins(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_can_be_switched_off() {
        let stuck = Progress::new("stuck");
        stuck.attempted();
        let mut watchdog = Watchdog::default();
        watchdog.watch(&stuck, "off".parse().expect("a setting"));
        let stalled = time::timeout(Duration::from_hours(1), watchdog.stalled());
        stalled.await.expect_err("nobody is watched");
        for bad in ["1s", "2days", "on", ""] {
            bad.parse::<StallTimeout>().expect_err(bad);
        }
    }
}
