//! What is read but not yet under way: in order for each user, past those who have to wait.

use std::collections::{HashMap, HashSet, VecDeque};

use super::reader::Step;
use crate::ledger::OutboxEvent;

/// Each user has one event under way at most: were an earlier one lost, a later one must not be on
/// the stream yet. Events of others need not wait for it.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// As read.
    steps: VecDeque<Step>,
    /// Users with an event under way.
    busy: HashSet<i64>,
    /// Events taken from `steps` while their user was busy, in order.
    waiting: HashMap<i64, VecDeque<OutboxEvent>>,
    /// Users who wait no longer.
    freed: VecDeque<i64>,
    /// Events in `waiting`.
    held: usize,
}

impl Backlog {
    pub(super) fn extend(&mut self, steps: Vec<Step>) {
        self.steps.extend(steps);
    }

    /// Whether all that was read is under way or done.
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.held == 0
    }

    /// Whether more should be read: not while much is held for users who are busy.
    pub(super) fn has_room(&self, most_held: usize) -> bool {
        self.steps.is_empty() && self.held < most_held
    }

    /// The next step that can be begun. The user of an event is busy from then on.
    pub(super) fn take_ready(&mut self) -> Option<Step> {
        if let Some(event) = self.take_freed() {
            return Some(self.begin(event));
        }
        loop {
            match self.steps.pop_front()? {
                Step::Publish(event) if self.busy.contains(&event.user_id) => self.hold(event),
                Step::Publish(event) => return Some(self.begin(event)),
                // Ids are closed after everything before them is done.
                step if self.held == 0 => return Some(step),
                step => {
                    self.steps.push_front(step);
                    return None;
                }
            }
        }
    }

    /// The user's event is on the stream.
    pub(super) fn done(&mut self, user_id: i64) {
        self.busy.remove(&user_id);
        if self.waiting.contains_key(&user_id) {
            self.freed.push_back(user_id);
        }
    }

    fn begin(&mut self, event: OutboxEvent) -> Step {
        self.busy.insert(event.user_id);
        Step::Publish(event)
    }

    fn hold(&mut self, event: OutboxEvent) {
        self.held += 1;
        let waiting = self.waiting.entry(event.user_id).or_default();
        waiting.push_back(event);
    }

    fn take_freed(&mut self) -> Option<OutboxEvent> {
        let user_id = self.freed.pop_front()?;
        let waiting = self.waiting.get_mut(&user_id)?;
        let event = waiting.pop_front()?;
        if waiting.is_empty() {
            self.waiting.remove(&user_id);
        }
        self.held -= 1;
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, VecDeque};

    use chrono::DateTime;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::{Backlog, OutboxEvent, Step};

    fn event(id: i64, user_id: i64) -> OutboxEvent {
        OutboxEvent {
            id,
            event_id: Uuid::nil(),
            r#type: String::new(),
            user_id,
            payload: String::new(),
            traceparent: None,
            created_at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn others_pass_a_user_who_is_busy_and_closing_waits_for_all() {
        let mut backlog = Backlog::default();
        let events = [event(1, 7), event(2, 7), event(3, 8)].map(Step::Publish);
        backlog.extend(events.into());
        backlog.extend(vec![Step::Close(4..5)]);
        let take = |backlog: &mut Backlog| match backlog.take_ready() {
            Some(Step::Publish(event)) => event.id,
            Some(Step::Close(ids)) => -ids.start,
            None => 0,
        };
        assert_eq!(take(&mut backlog), 1);
        assert_eq!(take(&mut backlog), 3);
        assert_eq!(take(&mut backlog), 0);
        backlog.done(7);
        assert_eq!(take(&mut backlog), 2);
        assert_eq!(take(&mut backlog), -4);
        assert!(backlog.is_empty());
    }

    proptest! {
        /// However acknowledgements interleave: all are begun, each user's in order, one at a time.
        #[test]
        fn each_users_events_are_begun_in_order_one_at_a_time(
            users in prop::collection::vec(1..6_i64, 0..80),
            acknowledge in prop::collection::vec(any::<prop::sample::Index>(), 200),
        ) {
            let mut backlog = Backlog::default();
            let events = (1..).zip(&users).map(|(id, user)| Step::Publish(event(id, *user)));
            backlog.extend(events.collect());
            let mut under_way: VecDeque<(i64, i64)> = VecDeque::new();
            let mut last = HashMap::new();
            let mut begun = 0;
            for index in acknowledge {
                while let Some(step) = backlog.take_ready() {
                    let Step::Publish(event) = step else { unreachable!("only events") };
                    prop_assert!(under_way.iter().all(|(_, user)| *user != event.user_id));
                    prop_assert!(last.insert(event.user_id, event.id) < Some(event.id));
                    under_way.push_back((event.id, event.user_id));
                    begun += 1;
                }
                if under_way.is_empty() {
                    break;
                }
                let at = index.index(under_way.len());
                let (_, user) = under_way.remove(at).expect("an index within");
                backlog.done(user);
            }
            prop_assert_eq!(begun, users.len());
            prop_assert!(backlog.is_empty());
        }
    }
}
