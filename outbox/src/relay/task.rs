//! What a reader asks of a publisher.

use std::{
    hash::{BuildHasher, RandomState},
    ops::Range,
};

use uuid::Uuid;

use crate::ledger::Entry;

/// What is to be done next for the stream to follow the ledger.
#[derive(Debug)]
pub(super) enum Task {
    Publish(Publication),
    /// Nothing: these ids, without a hole between them, are of events of other streams. The last of
    /// them has this event id.
    Skip(Range<i64>, Uuid),
    /// Nothing: the aggregate of this event has been restated above its version.
    Supersede(i64, Uuid),
    /// These events have no route.
    Park(Vec<(i64, Uuid)>),
    /// No event will come with these ids.
    AbandonGap(Range<i64>),
}

#[derive(Debug)]
pub(super) struct Publication {
    pub(super) entry: Entry,
    pub(super) key: Key,
}

/// Stands for an aggregate. Two that share one by accident wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key(pub(super) u64);

#[derive(Debug, Default)]
pub(super) struct Keys(RandomState);

impl Keys {
    pub(super) fn of(&self, entry: &Entry) -> Key {
        Key(self
            .0
            .hash_one((&entry.aggregate_type, &entry.aggregate_id)))
    }
}
