//! How many messages a handler is given at once.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

/// More would not be faster.
const MAX: usize = 1_000;
/// Fewer take hardly less time: what is left is the time to answer.
const MIN_FOR_SPEED: usize = 50;
const START: usize = 100;
/// A batch that exceeded a time limit was that much too large.
const SHRINK_FACTOR: usize = 8;
/// A batch that failed after so many times the target has met something slow, not something absent.
const HANG_FACTOR: u32 = 2;

/// Follows how fast the handler is, so that a batch stays well below its time limits, and a message
/// in hand below the ack wait. Outlives the sessions.
#[derive(Debug)]
pub(crate) struct BatchSize {
    messages: AtomicUsize,
    target: Duration,
}

impl BatchSize {
    /// A full batch is to take about `target`, and at least half of it unless it is the largest.
    pub(crate) fn new(target: Duration) -> Self {
        Self {
            messages: AtomicUsize::new(START),
            target,
        }
    }

    /// At least 1.
    pub(crate) fn get(&self) -> usize {
        self.messages.load(Ordering::Relaxed)
    }

    /// So many messages were handled within `elapsed`.
    pub(crate) fn took(&self, messages: usize, elapsed: Duration) {
        let size = self.get();
        let share = elapsed.as_secs_f64() / self.target.as_secs_f64();
        let share_if_full = share * size as f64 / messages.max(1) as f64;
        if share_if_full < 0.5 {
            self.set(size, (2 * size).min(MAX));
        } else if share > 1.0 {
            let fitting = (messages as f64 / share) as usize;
            self.set(size, fitting.max(MIN_FOR_SPEED).min(size));
        }
    }

    /// So many messages exceeded a time limit; false if that was but one.
    pub(crate) fn exceeded(&self, messages: usize) -> bool {
        let size = self.get();
        self.set(size, (messages / SHRINK_FACTOR).clamp(1, size));
        messages > 1
    }

    /// So many messages failed after `elapsed`: if that was far beyond the target, fewer may do.
    pub(crate) fn failed(&self, messages: usize, elapsed: Duration) {
        if elapsed > self.target * HANG_FACTOR {
            self.exceeded(messages);
        }
    }

    fn set(&self, from: usize, to: usize) {
        if from != to {
            self.messages.store(to, Ordering::Relaxed);
            tracing::debug!(from, to, "changed the batch size");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BatchSize, MAX, MIN_FOR_SPEED, START};

    const TARGET: Duration = Duration::from_secs(2);

    /// What it comes to if each message takes `per_message`.
    fn settled(size: &BatchSize, per_message: Duration) -> usize {
        for _ in 0..20 {
            let messages = size.get();
            let elapsed = per_message * u32::try_from(messages).expect("few");
            size.took(messages, elapsed);
        }
        size.get()
    }

    #[test]
    fn it_follows_the_speed_of_the_handler() {
        let size = BatchSize::new(TARGET);
        assert_eq!(settled(&size, Duration::from_micros(20)), MAX);
        assert_eq!(settled(&size, Duration::from_millis(10)), 200);
        assert_eq!(settled(&size, Duration::from_millis(500)), MIN_FOR_SPEED);
        assert_eq!(settled(&size, Duration::from_micros(20)), MAX);
    }

    #[test]
    fn a_few_messages_that_are_slow_do_not_shrink_it_below_what_helps() {
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
