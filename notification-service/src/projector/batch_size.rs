//! How many events are written at once.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// More would not be faster.
const MAX: usize = 1_000;
/// Fewer take hardly less time: what is left is the time to answer.
const MIN_FOR_SPEED: usize = 50;
const START: usize = 100;
/// A command that MongoDB ended for its time was that much too large.
const SHRINK_FACTOR: usize = 8;

/// Follows how fast MongoDB is, so that a command stays well below its time limit, and an event
/// in hand below the ack wait. Outlives the sessions.
#[derive(Debug)]
pub(super) struct BatchSize {
    events: AtomicUsize,
    target: Duration,
}

impl BatchSize {
    /// A full batch is to take about `target`, and at least half of it unless it is the largest.
    pub(super) fn new(target: Duration) -> Self {
        Self {
            events: AtomicUsize::new(START),
            target,
        }
    }

    /// At least 1.
    pub(super) fn get(&self) -> usize {
        self.events.load(Ordering::Relaxed)
    }

    /// So many events were written within `elapsed`.
    pub(super) fn took(&self, events: usize, elapsed: Duration) {
        let size = self.get();
        let share = elapsed.as_secs_f64() / self.target.as_secs_f64();
        let share_if_full = share * size as f64 / events.max(1) as f64;
        if share_if_full < 0.5 {
            self.set(size, (2 * size).min(MAX));
        } else if share > 1.0 {
            let fitting = (events as f64 / share) as usize;
            self.set(size, fitting.max(MIN_FOR_SPEED).min(size));
        }
    }

    /// So many events were not written within the time limit; false if that was but one.
    pub(super) fn exceeded(&self, events: usize) -> bool {
        let size = self.get();
        self.set(size, (events / SHRINK_FACTOR).clamp(1, size));
        events > 1
    }

    fn set(&self, from: usize, to: usize) {
        if from != to {
            self.events.store(to, Ordering::Relaxed);
            tracing::debug!(from, to, "changed the batch size");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BatchSize, MAX, MIN_FOR_SPEED, START};

    const TARGET: Duration = Duration::from_secs(2);

    /// What it comes to if each event takes `per_event`.
    fn settled(size: &BatchSize, per_event: Duration) -> usize {
        for _ in 0..20 {
            let events = size.get();
            size.took(events, per_event * u32::try_from(events).expect("few"));
        }
        size.get()
    }

    #[test]
    fn it_follows_the_speed_of_mongodb() {
        let size = BatchSize::new(TARGET);
        assert_eq!(settled(&size, Duration::from_micros(20)), MAX);
        assert_eq!(settled(&size, Duration::from_millis(10)), 200);
        assert_eq!(settled(&size, Duration::from_millis(500)), MIN_FOR_SPEED);
        assert_eq!(settled(&size, Duration::from_micros(20)), MAX);
    }

    #[test]
    fn a_few_events_that_are_slow_do_not_shrink_it_below_what_helps() {
        let size = BatchSize::new(TARGET);
        size.took(1, Duration::from_secs(8));
        assert_eq!(size.get(), MIN_FOR_SPEED);
        size.took(1, Duration::from_millis(2));
        assert_eq!(size.get(), START);
    }

    #[test]
    fn what_takes_too_long_comes_down_to_one() {
        let size = BatchSize::new(TARGET);
        assert!(size.exceeded(1_000));
        assert_eq!(size.get(), START);
        assert!(size.exceeded(100));
        assert!(size.exceeded(12));
        assert_eq!(size.get(), 1);
        assert!(!size.exceeded(1));
        assert_eq!(settled(&size, Duration::from_micros(20)), MAX);
    }
}
