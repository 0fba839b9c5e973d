//! Sessions of a task that lasts as long as its process: one after the other, each until something
//! fails.
//!
//! ```
//! # use service_runtime::{progress::Progress, sessions::Sessions};
//! # use tokio_util::sync::CancellationToken;
//! # async fn session(_: &mut Sessions) -> Result<(), std::io::Error> { Ok(()) }
//! # async fn run(progress: &Progress, shutdown: &CancellationToken) {
//! let mut sessions = Sessions::new("relay", progress, shutdown);
//! while sessions.begin().await {
//!     match session(&mut sessions).await {
//!         Ok(()) => break,
//!         Err(error) => sessions.failed(&error),
//!     }
//! }
//! # }
//! ```

use std::{fmt::Display, time::Duration};

use backon::{BackoffBuilder, ExponentialBackoff};
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;

use crate::{backoff, metrics::SESSIONS_FAILED, progress::Progress};

/// A session that lasted this long before it failed starts the waiting anew.
const STABLE: Duration = Duration::from_secs(10);

/// Begins sessions, and waits between them while they fail, for as long as it takes
/// ([`backoff::unbounded`]).
#[derive(Debug)]
pub struct Sessions {
    task: &'static str,
    progress: Progress,
    shutdown: CancellationToken,
    delays: ExponentialBackoff,
    delay: Option<Duration>,
    began: Instant,
    failures: metrics::Counter,
}

impl Sessions {
    /// `task` is what the log says is held up.
    #[must_use]
    pub fn new(task: &'static str, progress: &Progress, shutdown: &CancellationToken) -> Self {
        Self {
            task,
            progress: progress.clone(),
            shutdown: shutdown.clone(),
            delays: backoff::unbounded().build(),
            delay: None,
            began: Instant::now(),
            failures: SESSIONS_FAILED.with([task]),
        }
    }

    /// Waits if the last session has failed; false if the process is to stop.
    pub async fn begin(&mut self) -> bool {
        if let Some(delay) = self.delay.take() {
            let pause = self.shutdown.run_until_cancelled(time::sleep(delay));
            pause.await;
        }
        self.began = Instant::now();
        self.progress.attempted();
        !self.shutdown.is_cancelled()
    }

    /// The session has done some of its work: the next failure starts the waiting anew.
    pub fn worked(&mut self) {
        self.delays = backoff::unbounded().build();
    }

    /// The session has failed: logs it, and the next one waits.
    pub fn failed(&mut self, error: &impl Display) {
        if self.began.elapsed() > STABLE {
            self.worked();
        }
        self.failures.increment(1);
        let delay = self.delays.next().unwrap_or_default();
        let (error, retry_in_ms) = (format!("{error:#}"), delay.as_millis());
        tracing::warn!(error, retry_in_ms, "{} is held up", self.task);
        self.delay = Some(delay);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{self, Instant};
    use tokio_util::sync::CancellationToken;

    use super::{STABLE, Sessions};
    use crate::progress::Progress;

    fn sessions(shutdown: &CancellationToken) -> Sessions {
        Sessions::new("task", &Progress::new("task"), shutdown)
    }

    /// The wait before the next session.
    async fn wait(sessions: &mut Sessions) -> Duration {
        sessions.failed(&"a fault");
        let since = Instant::now();
        assert!(sessions.begin().await);
        since.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_that_fail_wait_longer_and_longer_but_not_endlessly() {
        let mut sessions = sessions(&CancellationToken::new());
        assert!(sessions.begin().await);
        assert!(wait(&mut sessions).await < Duration::from_millis(250));
        for _ in 0..100 {
            wait(&mut sessions).await;
        }
        let longest = wait(&mut sessions).await;
        assert!((Duration::from_secs(1)..Duration::from_millis(2_100)).contains(&longest));
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_that_worked_or_lasted_starts_the_waiting_anew() {
        let mut sessions = sessions(&CancellationToken::new());
        let is_short = |wait| wait < Duration::from_millis(250);
        for _ in 0..10 {
            wait(&mut sessions).await;
        }
        sessions.worked();
        assert!(is_short(wait(&mut sessions).await));
        for _ in 0..10 {
            wait(&mut sessions).await;
        }
        time::advance(2 * STABLE).await;
        assert!(is_short(wait(&mut sessions).await));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_not_failed_is_followed_at_once_and_none_after_a_shutdown() {
        let shutdown = CancellationToken::new();
        let mut sessions = sessions(&shutdown);
        let since = Instant::now();
        assert!(sessions.begin().await && sessions.begin().await);
        sessions.failed(&"a fault");
        shutdown.cancel();
        assert!(!sessions.begin().await);
        assert_eq!(since.elapsed(), Duration::ZERO);
    }
}
