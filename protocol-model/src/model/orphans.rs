//! What the stream has and the database lacks, after a restore.

use std::collections::BTreeMap;

use crate::model::{
    Guard, Protocol, State,
    database::{Cursor, Row, User},
    stream::Event,
};

/// Without a restore there are none; and what was looked up need not be distinguished.
pub(crate) fn are_possible(protocol: &Protocol) -> bool {
    protocol.bounds.restores > 0
}

/// Up to where messages need not be looked up.
fn looked_up_to(state: &State, cursor: &Cursor) -> u8 {
    // A stream that ends below has lost what was looked up.
    let saved = Some(state.database.looked_up_to).filter(|it| *it <= state.stream.end());
    cursor.tail_sequence().max(saved.unwrap_or_default())
}

fn above(state: &State, sequence: u8) -> impl Iterator<Item = Event> {
    let messages = (sequence + 1..=state.stream.end()).filter_map(|it| state.stream.get(it));
    messages.filter(|it| !state.database.has(*it))
}

/// Whether others have published some.
pub(crate) fn are_above(protocol: &Protocol, state: &State, looked_up: u8) -> bool {
    are_possible(protocol) && above(state, looked_up).next().is_some()
}

pub(crate) fn wait_for_writers(protocol: &Protocol, state: &State, cursor: &Cursor) -> bool {
    let is_open = |orphan: Event| state.database.open().any(|it| it.key == orphan.key);
    are_possible(protocol) && above(state, looked_up_to(state, cursor)).any(is_open)
}

/// Looks up all that the stream has above the tail, and restates the aggregates of orphans. Returns up to
/// where it has looked.
pub(crate) fn reconcile(protocol: &Protocol, state: &mut State) -> u8 {
    if !are_possible(protocol) {
        return state.stream.end();
    }
    let from = looked_up_to(state, &state.database.cursor);
    let orphans: Vec<_> = above(state, from).collect();
    let mut highest: BTreeMap<u8, u8> = BTreeMap::new();
    for orphan in orphans {
        let version = highest.entry(orphan.key).or_default();
        *version = orphan.version.max(*version);
        // The sequence is moved beyond all ids that are out.
        while state.database.next_id() <= orphan.id {
            state.database.rows.push(Row::RolledBack);
        }
    }
    for (key, version) in highest {
        restate(protocol, state, key, version);
    }
    state.database.looked_up_to = from.max(state.stream.end());
    state.database.looked_up_to
}

/// An event with the present state, at a version above that of every orphan. One that was never written,
/// as far as the database knows, is deleted.
fn restate(protocol: &Protocol, state: &mut State, key: u8, orphan: u8) {
    let database = &mut state.database;
    if protocol.has(Guard::Superseded) {
        let is_waiting = |it: &&Event| it.key == key && it.version <= orphan;
        let waiting = database.committed().filter(is_waiting).map(|it| it.id);
        database.superseded = database.superseded.union(waiting.collect());
    }
    let user = database.users[usize::from(key)];
    // There is no row that tells.
    let is_forgotten = user.is_deleted && !protocol.has(Guard::KnownDeletion);
    let known = if is_forgotten { 0 } else { user.version };
    let above = match protocol.has(Guard::RestatedAbove) {
        true => known.max(orphan),
        false => known,
    };
    state.events += 1;
    let restated = Event {
        number: state.events,
        id: database.next_id(),
        key,
        version: above + 1,
        deletes: user.is_deleted || user.version == 0,
    };
    database.users[usize::from(key)] = User::of(restated);
    database.rows.push(Row::Committed(restated));
}
