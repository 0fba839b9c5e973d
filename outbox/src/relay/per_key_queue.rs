//! What is read but not yet in flight: in order for each aggregate, past those that have to wait.

use std::collections::{HashMap, HashSet, VecDeque};

use super::task::{Key, Publication, Task};

/// Each aggregate has one event in flight at most: were an earlier one lost, a later one must not be
/// on the stream yet. Events of others need not wait for it.
#[derive(Debug, Default)]
pub(super) struct PerKeyQueue {
    /// As read.
    tasks: VecDeque<Task>,
    /// Aggregates with an event in flight.
    busy: HashSet<Key>,
    /// Events taken from `tasks` while their aggregate was busy, in order.
    waiting: HashMap<Key, VecDeque<Publication>>,
    /// Aggregates that wait no longer.
    freed: VecDeque<Key>,
    /// Events in `waiting`.
    held: usize,
    /// Of the payloads of all events that are not done, also of those in flight.
    bytes: usize,
}

impl PerKeyQueue {
    pub(super) fn extend(&mut self, tasks: Vec<Task>) {
        self.bytes += tasks.iter().map(payload_bytes).sum::<usize>();
        self.tasks.extend(tasks);
    }

    /// Whether all that was read is in flight or done.
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.held == 0
    }

    /// Whether more should be read: not while much is held for aggregates that are busy, or large events are
    /// in flight.
    pub(super) fn has_room(&self, most_held: usize, most_bytes: usize) -> bool {
        self.tasks.is_empty() && self.held < most_held && self.bytes < most_bytes
    }

    /// The next task that can be begun. The aggregate of an event is busy from then on.
    pub(super) fn take_ready(&mut self) -> Option<Task> {
        if let Some(publication) = self.take_freed() {
            return Some(self.begin(publication));
        }
        loop {
            match self.tasks.pop_front()? {
                Task::Publish(event) if self.busy.contains(&event.key) => self.hold(event),
                Task::Publish(event) => return Some(self.begin(event)),
                task @ (Task::Skip(..) | Task::Supersede(..) | Task::Park(_)) => return Some(task),
                // A gap is abandoned after everything before it is done.
                task if self.held == 0 => return Some(task),
                task => {
                    self.tasks.push_front(task);
                    return None;
                }
            }
        }
    }

    /// The aggregate's event is on the stream.
    pub(super) fn done(&mut self, event: &Publication) {
        self.bytes -= event.entry.payload.len();
        self.busy.remove(&event.key);
        if self.waiting.contains_key(&event.key) {
            self.freed.push_back(event.key);
        }
    }

    fn begin(&mut self, publication: Publication) -> Task {
        self.busy.insert(publication.key);
        Task::Publish(publication)
    }

    fn hold(&mut self, publication: Publication) {
        self.held += 1;
        let waiting = self.waiting.entry(publication.key).or_default();
        waiting.push_back(publication);
    }

    fn take_freed(&mut self) -> Option<Publication> {
        let key = self.freed.pop_front()?;
        let waiting = self.waiting.get_mut(&key)?;
        let publication = waiting.pop_front()?;
        if waiting.is_empty() {
            self.waiting.remove(&key);
        }
        self.held -= 1;
        Some(publication)
    }
}

fn payload_bytes(task: &Task) -> usize {
    match task {
        Task::Publish(event) => event.entry.payload.len(),
        Task::Skip(..) | Task::Supersede(..) | Task::Park(_) | Task::AbandonGap(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, VecDeque};

    use chrono::DateTime;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::{Key, PerKeyQueue, Publication, Task};
    use crate::ledger::Entry;

    fn event(id: i64, key: u64) -> Task {
        Task::Publish(publication(id, key))
    }

    fn publication(id: i64, key: u64) -> Publication {
        let entry = Entry {
            id,
            event_id: Uuid::nil(),
            aggregate_type: String::new(),
            created_at: DateTime::UNIX_EPOCH,
            is_wanted: true,
            aggregate_id: String::new(),
            event_type: String::new(),
            version: None,
            payload: "{}".to_owned(),
            headers: None,
        };
        Publication {
            entry,
            key: Key(key),
        }
    }

    #[test]
    fn there_is_room_again_once_enough_of_what_is_in_flight_is_done() {
        let mut queue = PerKeyQueue::default();
        queue.extend(vec![event(1, 7), event(2, 8)]);
        assert!(!queue.has_room(10, 4), "there are tasks");
        assert!(queue.take_ready().is_some() && queue.take_ready().is_some());
        assert!(!queue.has_room(10, 4));
        queue.done(&publication(1, 7));
        assert!(queue.has_room(10, 4));
    }

    #[test]
    fn others_pass_an_aggregate_that_is_busy_and_abandoning_a_gap_waits_for_all() {
        let mut queue = PerKeyQueue::default();
        queue.extend(vec![event(1, 7), event(2, 7), event(3, 8)]);
        queue.extend(vec![Task::AbandonGap(4..5)]);
        let take = |queue: &mut PerKeyQueue| match queue.take_ready() {
            Some(Task::Publish(event)) => event.entry.id,
            Some(Task::AbandonGap(ids)) => -ids.start,
            _ => 0,
        };
        assert_eq!(take(&mut queue), 1);
        assert_eq!(take(&mut queue), 3);
        assert_eq!(take(&mut queue), 0);
        queue.done(&publication(1, 7));
        assert_eq!(take(&mut queue), 2);
        assert_eq!(take(&mut queue), -4);
        assert!(queue.is_empty());
    }

    proptest! {
        /// However acknowledgements interleave: all are begun, each aggregate's in order, one at a
        /// time.
        #[test]
        fn each_aggregates_events_are_begun_in_order_one_at_a_time(
            keys in prop::collection::vec(1..6_u64, 0..80),
            acknowledge in prop::collection::vec(any::<prop::sample::Index>(), 200),
        ) {
            let mut queue = PerKeyQueue::default();
            queue.extend((1..).zip(&keys).map(|(id, key)| event(id, *key)).collect());
            let mut in_flight: VecDeque<Publication> = VecDeque::new();
            let mut last = HashMap::new();
            let mut begun = 0;
            for index in acknowledge {
                while let Some(task) = queue.take_ready() {
                    let Task::Publish(event) = task else { unreachable!("only events") };
                    prop_assert!(in_flight.iter().all(|it| it.key != event.key));
                    prop_assert!(last.insert(event.key, event.entry.id) < Some(event.entry.id));
                    in_flight.push_back(event);
                    begun += 1;
                }
                if in_flight.is_empty() {
                    break;
                }
                let at = index.index(in_flight.len());
                queue.done(&in_flight.remove(at).expect("an index within"));
            }
            prop_assert_eq!(begun, keys.len());
            prop_assert!(queue.is_empty() && queue.has_room(1, 1));
        }
    }
}
