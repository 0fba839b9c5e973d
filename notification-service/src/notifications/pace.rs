//! A bound on the rate of what reads many users.

use std::time::Duration;

use service_runtime::progress::Progress;
use tokio::time;

/// A longer pause is taken in steps, so that the task does not seem to hang.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// At most so many users a second, with a pause after each batch; every batch is an attempt of the task.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    progress: Progress,
    per_user: Duration,
}

impl Pace {
    pub(crate) fn unlimited(progress: Progress) -> Self {
        Self {
            progress,
            per_user: Duration::ZERO,
        }
    }

    pub(crate) fn new(progress: Progress, users_per_second: u32) -> Self {
        Self {
            progress,
            per_user: Duration::from_secs(1) / users_per_second.max(1),
        }
    }

    /// To be told before what takes long and reads no users.
    pub(crate) fn attempt(&self) {
        self.progress.attempted();
    }

    /// To be awaited after so many users were read.
    pub(crate) async fn pause(&self, users: usize) {
        self.progress.attempted();
        let users = u32::try_from(users).unwrap_or(u32::MAX);
        let mut left = self.per_user.saturating_mul(users);
        while !left.is_zero() {
            let pause = left.min(MAX_PAUSE);
            time::sleep(pause).await;
            self.progress.attempted();
            left -= pause;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use service_runtime::progress::Progress;
    use tokio::time::Instant;

    use super::Pace;

    #[tokio::test(start_paused = true)]
    async fn no_more_users_are_read_in_a_second_than_the_rate_says() {
        let pace = Pace::new(Progress::new("test"), 10_000);
        let started = Instant::now();
        for _batch in 0..30 {
            pace.pause(1_000).await;
        }
        assert!(started.elapsed() >= Duration::from_secs(3));
    }
}
