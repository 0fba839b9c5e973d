//! What a read found, as tasks.

use crate::{
    ledger::Entry,
    relay::task::{Keys, Publication, Task},
};

/// Collects tasks in their order. Neighbours of other streams become one task, as do all events
/// without a route.
#[derive(Debug)]
pub(super) struct Batch {
    routed_types: Vec<String>,
    keys: Keys,
    tasks: Vec<Task>,
    unrouted: Vec<(i64, uuid::Uuid)>,
    /// Types without a route that have been logged.
    reported_types: Vec<String>,
}

/// Of types without a route no more are logged than this.
const MAX_REPORTED: usize = 100;

impl Batch {
    pub(super) fn new(routed_types: Vec<String>) -> Self {
        Self {
            routed_types,
            keys: Keys::default(),
            tasks: Vec::new(),
            unrouted: Vec::new(),
            reported_types: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, entry: Entry) {
        if !entry.is_wanted {
            self.skip(&entry);
        } else if self.routed_types.contains(&entry.aggregate_type) {
            let key = self.keys.of(&entry);
            self.tasks.push(Task::Publish(Publication { entry, key }));
        } else {
            self.unrouted.push((entry.id, entry.event_id));
            self.report(entry.aggregate_type);
        }
    }

    pub(super) fn supersede(&mut self, entry: &Entry) {
        self.tasks.push(Task::Supersede(entry.id, entry.event_id));
    }

    pub(super) fn abandon(&mut self, gap: std::ops::Range<i64>) {
        // Events that are parked come before it in the ledger, for all that is known.
        self.park();
        self.tasks.push(Task::AbandonGap(gap));
    }

    pub(super) fn take(&mut self) -> Vec<Task> {
        self.park();
        std::mem::take(&mut self.tasks)
    }

    fn skip(&mut self, entry: &Entry) {
        match self.tasks.last_mut() {
            Some(Task::Skip(ids, last_event_id)) if ids.end == entry.id => {
                ids.end += 1;
                *last_event_id = entry.event_id;
            }
            _ => (self.tasks).push(Task::Skip(entry.id..entry.id + 1, entry.event_id)),
        }
    }

    fn park(&mut self) {
        if !self.unrouted.is_empty() {
            let unrouted = std::mem::take(&mut self.unrouted);
            self.tasks.push(Task::Park(unrouted));
        }
    }

    fn report(&mut self, aggregate_type: String) {
        if self.reported_types.len() < MAX_REPORTED
            && !self.reported_types.contains(&aggregate_type)
        {
            tracing::error!(
                aggregate_type,
                "events of this aggregate type have no route; parking them"
            );
            self.reported_types.push(aggregate_type);
        }
    }
}
