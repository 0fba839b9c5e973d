//! When to try again to store dead letters, after that has failed.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::{sync::watch, time::Instant};

const MIN_DELAY: Duration = Duration::from_secs(1);
const MAX_DELAY: Duration = Duration::from_mins(1);
/// Doublings from the shortest delay to the longest.
const MAX_DOUBLINGS: usize = 6;

/// A dead-letter stream that is full or hangs is asked now and then, not for each letter: waiting
/// for it would hold up the messages that come along. Outlives the sessions.
#[derive(Debug, Clone)]
pub(crate) struct Retry(watch::Sender<Option<Failing>>);

#[derive(Debug, Clone, Copy)]
struct Failing {
    times: usize,
    until: Instant,
}

impl Default for Retry {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Retry {
    /// How long it is not to be tried; `None` if it may be now.
    pub(super) fn delay(&self) -> Option<Duration> {
        let failing = (*self.0.borrow())?;
        let delay = failing.until.saturating_duration_since(Instant::now());
        (!delay.is_zero()).then_some(delay)
    }

    pub(super) fn succeeded(&self) {
        self.0.send_if_modified(|failing| failing.take().is_some());
    }

    /// How long it is not to be tried, and whether this failure is the first of those that were
    /// under way together.
    pub(super) fn failed(&self) -> (Duration, bool) {
        if let Some(delay) = self.delay() {
            return (delay, false);
        }
        let times = self.0.borrow().map_or(0, |failing| failing.times);
        let delays = ExponentialBuilder::default()
            .with_min_delay(MIN_DELAY)
            .with_max_delay(MAX_DELAY)
            .with_jitter()
            .without_max_times();
        let delay = delays.build().nth(times.min(MAX_DOUBLINGS));
        let delay = delay.unwrap_or(MAX_DELAY);
        let until = Instant::now() + delay;
        let times = times + 1;
        self.0.send_replace(Some(Failing { times, until }));
        (delay, true)
    }
}
