//! The tasks of a process: started together, watched together, drained together.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::progress::{Progress, StallTimeout, Watchdog};

/// What a process runs. Each task is to end soon after [`Tasks::shutdown`] is cancelled and not
/// before: one that ends on its own takes the process down, so that a supervisor sees it.
#[derive(Debug, Default)]
pub struct Tasks {
    running: JoinSet<(&'static str, anyhow::Result<()>)>,
    shutdown: CancellationToken,
    /// Those that serve the others to their end.
    last: JoinSet<(&'static str, anyhow::Result<()>)>,
    others_ended: CancellationToken,
    watchdog: Watchdog,
}

impl Tasks {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the process is to stop.
    #[must_use]
    pub fn shutdown(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    pub fn spawn(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.running.spawn(async move { (name, task.await) });
    }

    /// Spawns a task that is to end when all others have ended or their time is over: within a time of
    /// its own after the token that it is given is cancelled, and not before.
    pub fn spawn_last<F: Future<Output = anyhow::Result<()>> + Send + 'static>(
        &mut self,
        name: &'static str,
        task: impl FnOnce(CancellationToken) -> F,
    ) {
        let task = task(self.others_ended.clone());
        self.last.spawn(async move { (name, task.await) });
    }

    /// Spawns a task that reports its attempts to the progress that it is given, and watches it. One
    /// that hangs from its beginning is found too.
    pub fn spawn_watched<F: Future<Output = anyhow::Result<()>> + Send + 'static>(
        &mut self,
        name: &'static str,
        timeout: StallTimeout,
        task: impl FnOnce(Progress) -> F,
    ) {
        let progress = Progress::new(name);
        progress.attempted();
        self.watch(&progress, timeout);
        self.spawn(name, task(progress));
    }

    /// Ends the process with an error, so that a supervisor starts it again, if the task makes no
    /// attempt for `timeout`.
    pub fn watch(&mut self, progress: &Progress, timeout: StallTimeout) {
        self.watchdog.watch(progress, timeout);
    }

    /// Runs until SIGTERM or Ctrl-C, until [`Tasks::shutdown`] is cancelled elsewhere, or until a
    /// task ends or is stuck; then gives the others `drain_timeout` to finish what they have in hand. A second
    /// signal cuts the drain short.
    ///
    /// # Errors
    /// If a task failed, panicked, ended early or is stuck, or if the drain did not end in time.
    pub async fn run(mut self, drain_timeout: Duration) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
        let mut stop_signal = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };

        let outcome = tokio::select! {
            // In this order: a task that ends because it was told to has not ended early.
            biased;
            signal = stop_signal() => {
                tracing::info!(signal, "shutting down");
                Ok(())
            }
            () = self.shutdown.cancelled() => Ok(()),
            Some(ended) = self.running.join_next() => Err(early_end(ended)),
            Some(ended) = self.last.join_next() => Err(early_end(ended)),
            (task, silent_for) = self.watchdog.stalled() => {
                Err(anyhow!("{task} is stuck: it has tried nothing for {silent_for:?}"))
            }
        };
        self.shutdown.cancel();

        let drained = tokio::select! {
            drained = tokio::time::timeout(drain_timeout, ends(&mut self.running)) => {
                drained.unwrap_or_else(|_| Err(anyhow!("not drained within {drain_timeout:?}")))
            }
            signal = stop_signal() => Err(anyhow!("a second {signal} cut the drain short")),
        };
        self.others_ended.cancel();
        // However long the others took: they bound their own ends.
        let served = ends(&mut self.last).await;
        outcome.and(drained).and(served)
    }
}

type Ended = Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>;

async fn ends(tasks: &mut JoinSet<(&'static str, anyhow::Result<()>)>) -> anyhow::Result<()> {
    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        let ended = match ended {
            Ok((name, outcome)) => outcome.with_context(|| format!("{name} failed")),
            Err(panic) => Err(panic.into()),
        };
        if let Err(error) = ended {
            tracing::error!(error = format!("{error:#}"), "a task failed");
            result = result.and(Err(error));
        }
    }
    result
}

fn early_end(ended: Ended) -> anyhow::Error {
    match ended {
        Ok((name, Ok(()))) => anyhow!("{name} ended early"),
        Ok((name, Err(error))) => error.context(format!("{name} failed")),
        Err(panic) => panic.into(),
    }
}

/// Waits for `future` unless the process is to stop first.
///
/// # Errors
/// If `shutdown` was cancelled first.
pub async fn unless_stopped<T>(
    shutdown: &CancellationToken,
    future: impl Future<Output = T>,
) -> anyhow::Result<T> {
    match shutdown.run_until_cancelled(future).await {
        Some(value) => Ok(value),
        None => bail!("stopped before it was done"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time;

    use super::Tasks;
    use crate::progress::Progress;

    const DRAIN: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_task_that_ends_on_its_own_stops_the_others_and_is_reported() {
        let mut tasks = Tasks::new();
        let shutdown = tasks.shutdown();
        tasks.spawn("patient", async move {
            shutdown.cancelled().await;
            Ok(())
        });
        tasks.spawn("hasty", async { Ok(()) });
        let error = tasks.run(DRAIN).await.expect_err("it ended early");
        assert_eq!(error.to_string(), "hasty ended early");
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let mut tasks = Tasks::new();
        tasks.spawn("clumsy", async { panic!("dropped it") });
        let error = tasks.run(DRAIN).await.expect_err("it panicked");
        assert!(error.to_string().contains("dropped it"), "{error}");
    }

    #[tokio::test]
    async fn a_drain_that_hangs_ends_at_its_bound() {
        let mut tasks = Tasks::new();
        tasks.spawn("stuck", std::future::pending());
        tasks.shutdown().cancel();
        let error = tasks.run(Duration::ZERO).await.expect_err("it hung");
        assert!(error.to_string().starts_with("not drained"), "{error}");
    }

    #[tokio::test]
    async fn a_task_that_is_quick_to_stop_has_not_ended_early() {
        for _ in 0..50 {
            let mut tasks = Tasks::new();
            tasks.spawn("quick", async { Ok(()) });
            tokio::task::yield_now().await;
            tasks.shutdown().cancel();
            tasks.run(DRAIN).await.expect("an orderly stop");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_is_stuck_ends_the_process_with_an_error() {
        let mut tasks = Tasks::new();
        let progress = Progress::new("worker");
        tasks.watch(&progress, "2min".parse().expect("a timeout"));
        let shutdown = tasks.shutdown();
        tasks.spawn("worker", async move {
            progress.attempted();
            std::future::pending().await
        });
        tasks.spawn("patient", async move {
            shutdown.cancelled().await;
            Ok(())
        });
        let error = tasks.run(DRAIN).await.expect_err("it is stuck");
        assert!(error.to_string().starts_with("worker is stuck"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_rests_for_long_is_not_stuck_and_one_that_hangs_in_its_round_is() {
        let mut tasks = Tasks::new();
        let timeout = "2min".parse().expect("a timeout");
        let shutdown = tasks.shutdown();
        tasks.spawn_watched("sweeper", timeout, |progress| async move {
            let sweeping = async {
                for _round in 0..3 {
                    progress.rest(Duration::from_hours(1)).await;
                }
                std::future::pending::<()>().await;
            };
            shutdown.run_until_cancelled(sweeping).await;
            Ok(())
        });
        let started = time::Instant::now();
        let error = tasks.run(DRAIN).await.expect_err("it is stuck");
        assert!(error.to_string().starts_with("sweeper is stuck"), "{error}");
        assert!(started.elapsed() >= Duration::from_hours(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watched_task_that_hangs_from_its_beginning_is_stuck() {
        let mut tasks = Tasks::new();
        let timeout = "2min".parse().expect("a timeout");
        let shutdown = tasks.shutdown();
        tasks.spawn_watched("backfill", timeout, |_| async move {
            shutdown.cancelled().await;
            Ok(())
        });
        let error = tasks.run(DRAIN).await.expect_err("it is stuck");
        assert!(
            error.to_string().starts_with("backfill is stuck"),
            "{error}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_serves_the_others_ends_after_them() {
        let mut tasks = Tasks::new();
        let (sender, mut served) = tokio::sync::mpsc::channel(1);
        tasks.spawn_last("last", |end| async move {
            end.cancelled().await;
            anyhow::ensure!(served.recv().await == Some("last words"));
            Ok(())
        });
        let shutdown = tasks.shutdown();
        tasks.spawn("worker", async move {
            shutdown.cancelled().await;
            time::sleep(DRAIN / 2).await;
            Ok(sender.send("last words").await?)
        });
        tasks.shutdown().cancel();
        tasks.run(DRAIN).await.expect("an orderly stop");
    }

    #[tokio::test]
    async fn an_orderly_stop_is_no_error() {
        let mut tasks = Tasks::new();
        let shutdown = tasks.shutdown();
        tasks.spawn("orderly", async move {
            shutdown.cancelled().await;
            Ok(())
        });
        tasks.shutdown().cancel();
        tasks.run(DRAIN).await.expect("an orderly stop");
    }
}
