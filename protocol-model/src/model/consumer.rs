//! The consumer and the copy. Messages are handled in any order, and again until they are acknowledged.

use crate::model::{
    Action, Guard, Protocol, State,
    database::User,
    ids::Ids,
    store::{Store, Watch},
    stream::Event,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Consumer {
    pub(crate) acknowledged: Ids,
    /// Between the write and the acknowledgement.
    pub(crate) in_hand: Option<(u8, Event)>,
    /// Incarnations that it has seen.
    pub(crate) seen: usize,
    pub(crate) store: Store,
    pub(crate) watch: Watch,
    /// Whether a reader saw an older version after a newer one.
    pub(crate) went_back: bool,
    /// Whether a reader saw a user again at a version before that of the deletion.
    pub(crate) is_resurrected: bool,
}

impl Consumer {
    pub(crate) fn new(keys: u8) -> Self {
        Self {
            acknowledged: Ids::default(),
            in_hand: None,
            seen: 0,
            store: Store::new(keys),
            watch: Watch::default(),
            went_back: false,
            is_resurrected: false,
        }
    }

    pub(crate) fn forget_above(&mut self, sequence: u8) {
        self.acknowledged = self.acknowledged.up_to(sequence);
    }

    /// A server that starts moves consumers back to the end of the stream (from 2.14 on), and takes an
    /// acknowledgement only for a message that it has delivered since.
    pub(crate) fn server_started(&mut self, end: u8) {
        self.forget_above(end);
        self.in_hand.take_if(|(sequence, _)| *sequence > end);
    }

    fn apply(&mut self, protocol: &Protocol, event: Event) {
        let key = usize::from(event.key);
        let stored = self.store.copy[key];
        if event.version <= stored.version && protocol.has(Guard::Version) {
            return;
        }
        self.went_back |= event.version < stored.version;
        self.is_resurrected |= !event.deletes && event.version < self.store.deletions[key];
        if event.deletes {
            self.store.deletions[key] = event.version;
        }
        self.store.copy[key] = match event.deletes && !protocol.has(Guard::Tombstone) {
            true => User::default(),
            false => User::of(event),
        };
    }
}

pub(crate) fn progress(protocol: &Protocol, state: &State, actions: &mut Vec<Action>) {
    let consumer = &state.consumer;
    if let Some((sequence, _)) = consumer.in_hand {
        actions.push(Action::Finish { sequence });
        return;
    }
    if protocol.has(Guard::Rewind) && consumer.seen < state.stream.incarnations.len() {
        actions.push(Action::Rewind);
    }
    for sequence in 1..=state.stream.end() {
        let is_new = !consumer.acknowledged.contains(sequence);
        if is_new && state.stream.get(sequence).is_some() {
            actions.push(Action::Handle { sequence });
        }
    }
}

pub(crate) fn faults(state: &State, actions: &mut Vec<Action>) {
    if state.left.consumer_crashes > 0 && state.consumer.in_hand.is_some() {
        actions.push(Action::CrashConsumer);
    }
}

/// Applies the event; its message is acknowledged after that.
pub(crate) fn handle(protocol: &Protocol, state: &mut State, sequence: u8) {
    let Some(event) = state.stream.get(sequence) else {
        return;
    };
    match protocol.has(Guard::AckAfterWrite) {
        true => state.consumer.apply(protocol, event),
        false => state.consumer.acknowledged.insert(sequence),
    }
    state.consumer.in_hand = Some((sequence, event));
}

pub(crate) fn finish(protocol: &Protocol, state: &mut State) {
    let Some((sequence, event)) = state.consumer.in_hand.take() else {
        return;
    };
    match protocol.has(Guard::AckAfterWrite) {
        true => state.consumer.acknowledged.insert(sequence),
        false => state.consumer.apply(protocol, event),
    }
}

pub(crate) fn crash(state: &mut State) {
    state.left.consumer_crashes -= 1;
    state.consumer.in_hand = None;
    state.consumer.watch.crash();
}

/// To the lowest of the incarnations that it has not seen.
pub(crate) fn rewind(state: &mut State) {
    let incarnations = &state.stream.incarnations;
    let lowest = incarnations[state.consumer.seen..].iter().min();
    let common = lowest.copied().unwrap_or(u8::MAX);
    state.consumer.seen = incarnations.len();
    state.consumer.forget_above(common);
    state.consumer.store.position.rewind(common);
}
