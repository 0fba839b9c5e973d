//! What MongoDB has: the copy, and the position beside it, which tells what the copy has. It may be put back to
//! an earlier state.

use crate::model::{Action, Guard, Protocol, State, database::User};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Store {
    pub(crate) copy: Vec<User>,
    /// The version of each user's deletion, once it was applied.
    pub(crate) deletions: Vec<u8>,
    pub(crate) position: Position,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Position {
    revision: u8,
    /// The copy has all messages up to here.
    settled: u8,
    /// In which the position counts.
    incarnations: usize,
    /// What is settled beyond that, if the server still is this run of it.
    claim: Option<(u8, u8)>,
}

/// What the process knows of its store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Watch {
    /// Counts the starts of the server.
    run: u8,
    /// The run and the revision that it saw last, while it trusts the store.
    known: Option<(u8, u8)>,
    /// On its way.
    save: Option<Position>,
    backup: Option<Store>,
}

impl Store {
    pub(crate) fn new(keys: u8) -> Self {
        Self {
            copy: vec![User::default(); keys.into()],
            deletions: vec![0; keys.into()],
            position: Position::default(),
        }
    }
}

impl Position {
    pub(crate) fn rewind(&mut self, common: u8) {
        let claimed = self.claim.map_or(0, |(_, settled)| settled);
        if self.settled.max(claimed) > common {
            self.settled = self.settled.min(common);
            self.claim = None;
            self.revision += 1;
        }
    }

    /// Up to where the copy has what stands on the stream now, as it is read from this run of the server.
    fn held(self, run: u8, incarnations: &[u8]) -> u8 {
        let claimed = match self.claim {
            Some((claimed_of, settled)) if claimed_of == run => settled,
            _ => 0,
        };
        let later = incarnations[self.incarnations..].iter().copied();
        let common = later.min().unwrap_or(u8::MAX);
        self.settled.max(claimed).min(common)
    }
}

impl Watch {
    pub(crate) fn crash(&mut self) {
        self.known = None;
        self.save = None;
    }

    fn knows(&self, position: Position) -> bool {
        let is_same = |(run, revision)| run == self.run && revision <= position.revision;
        self.known.is_some_and(is_same)
    }
}

/// One look: whether the store is trusted, and what is to be saved.
struct Look {
    held: u8,
    is_trusted: bool,
    position: Position,
}

fn look_at(protocol: &Protocol, state: &State) -> Look {
    let consumer = &state.consumer;
    let (watch, position) = (&consumer.watch, consumer.store.position);
    let held = position.held(watch.run, &state.stream.incarnations);
    let in_hand = consumer.in_hand.map_or(0, |(sequence, _)| sequence);
    let delivered = consumer.acknowledged.highest().max(in_hand);
    let is_trusted = delivered <= held || watch.knows(position) || !protocol.has(Guard::KnownStore);
    let settled = match is_trusted {
        true => held.max(settled(state)),
        false => held,
    };
    let claimed = match protocol.has(Guard::Claim) {
        true => held,
        false => settled,
    };
    Look {
        held,
        is_trusted,
        position: Position {
            settled: claimed,
            incarnations: consumer.seen,
            claim: Some((watch.run, settled)),
            ..position
        },
    }
}

/// Up to where all is acknowledged, of messages that still stand on the stream.
fn settled(state: &State) -> u8 {
    let acknowledged = state.consumer.acknowledged;
    let missing = (1..=state.stream.end()).find(|it| {
        let is_there = state.stream.get(*it).is_some();
        is_there && !acknowledged.contains(*it)
    });
    missing.map_or(state.stream.end(), |sequence| sequence - 1)
}

pub(crate) fn progress(protocol: &Protocol, state: &State, actions: &mut Vec<Action>) {
    if protocol.bounds.put_backs == 0 {
        return;
    }
    let watch = &state.consumer.watch;
    if watch.save.is_some() {
        actions.push(Action::ArrivePosition);
        return;
    }
    // An incarnation comes first.
    if state.consumer.seen < state.stream.incarnations.len() {
        return;
    }
    let look = look_at(protocol, state);
    let position = state.consumer.store.position;
    if look.position != position || look.is_trusted != watch.knows(position) {
        actions.push(Action::Look);
    }
    if !look.is_trusted && state.consumer.in_hand.is_none() {
        actions.push(Action::GoBack);
    }
}

pub(crate) fn faults(state: &State, actions: &mut Vec<Action>) {
    if state.left.put_backs > 0 {
        actions.push(match state.consumer.watch.backup {
            None => Action::BackUpCopy,
            Some(_) => Action::PutBack,
        });
    }
}

pub(crate) fn look(protocol: &Protocol, state: &mut State) {
    let look = look_at(protocol, state);
    let position = state.consumer.store.position;
    let watch = &mut state.consumer.watch;
    watch.known = look.is_trusted.then_some((watch.run, position.revision));
    if look.position != position {
        watch.save = Some(look.position);
    }
}

/// Whichever server it reaches, it replaces only the revision that was read.
pub(crate) fn arrive_position(state: &mut State) {
    let position = &mut state.consumer.store.position;
    if let Some(saved) = state.consumer.watch.save.take()
        && saved.revision == position.revision
    {
        *position = Position {
            revision: saved.revision + 1,
            ..saved
        };
    }
}

/// To what the store has.
pub(crate) fn go_back(protocol: &Protocol, state: &mut State) {
    let held = look_at(protocol, state).held;
    state.consumer.forget_above(held);
    let revision = state.consumer.store.position.revision;
    let watch = &mut state.consumer.watch;
    watch.known = Some((watch.run, revision));
}

pub(crate) fn back_up(state: &mut State) {
    state.consumer.watch.backup = Some(state.consumer.store.clone());
}

pub(crate) fn put_back(state: &mut State) {
    state.left.put_backs -= 1;
    if let Some(backup) = state.consumer.watch.backup.take() {
        state.consumer.store = backup;
        state.consumer.watch.run += 1;
    }
}
