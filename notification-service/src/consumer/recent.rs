//! The last events that this process has handled.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use uuid::Uuid;

use super::HandledEvent;

/// About a megabyte.
const MAX_EVENTS: usize = 10_000;

/// Clones are of the same memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct RecentEvents(Arc<Mutex<Memory>>);

#[derive(Debug, Default)]
struct Memory {
    /// The newest is the last.
    events: VecDeque<HandledEvent>,
    /// How many there ever were.
    count: u64,
}

impl RecentEvents {
    /// Takes one short lock for the whole batch.
    pub(crate) fn remember(&self, batch: impl Iterator<Item = HandledEvent>) {
        let mut memory = self.memory();
        for event in batch {
            if memory.events.len() == MAX_EVENTS {
                memory.events.pop_front();
            }
            memory.events.push_back(event);
            memory.count += 1;
        }
    }

    /// Its last delivery.
    pub(super) fn find(&self, event_id: Uuid) -> Option<HandledEvent> {
        let memory = self.memory();
        let mut newest_first = memory.events.iter().rev();
        newest_first
            .find(|event| event.event_id == Some(event_id))
            .copied()
    }

    /// How many there ever were.
    pub(super) fn count(&self) -> u64 {
        self.memory().count
    }

    /// What came after the first `count`: at most so many, the newest, and how many others; moves
    /// `count` on.
    pub(super) fn after(&self, count: &mut u64, most: usize) -> (Vec<HandledEvent>, u64) {
        let memory = self.memory();
        let new = memory.count - *count;
        *count = memory.count;
        let known = memory.events.len();
        let taken = usize::try_from(new).unwrap_or(known).min(known).min(most);
        let events = memory.events.range(known - taken..).copied().collect();
        (events, new - taken as u64)
    }

    /// Every change is complete before the lock is released, so a panic elsewhere does no harm.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{MAX_EVENTS, RecentEvents};
    use crate::consumer::HandledEvent;

    fn event(number: usize) -> HandledEvent {
        HandledEvent::example(Uuid::from_u128(number as u128))
    }

    #[test]
    fn the_newest_are_known_and_no_more_than_the_bound() {
        let recent = RecentEvents::default();
        recent.remember((0..MAX_EVENTS).map(event));
        recent.remember((MAX_EVENTS..MAX_EVENTS + 5).map(event));
        assert_eq!(recent.memory().events.len(), MAX_EVENTS);
        assert_eq!(recent.find(Uuid::from_u128(4)), None);
        assert!(recent.find(Uuid::from_u128(5)).is_some());
    }

    #[test]
    fn each_look_gives_what_is_new_and_counts_what_it_leaves_out() {
        let recent = RecentEvents::default();
        recent.remember((0..3).map(event));
        let mut count = recent.count();
        assert_eq!(recent.after(&mut count, 2), (vec![], 0));
        recent.remember((3..8).map(event));
        assert_eq!(recent.after(&mut count, 2), (vec![event(6), event(7)], 3));
        assert_eq!(recent.after(&mut count, 2), (vec![], 0));
        recent.remember((0..2 * MAX_EVENTS).map(event));
        let (events, skipped) = recent.after(&mut count, 100);
        assert_eq!((events.len(), skipped), (100, 2 * MAX_EVENTS as u64 - 100));
    }
}
