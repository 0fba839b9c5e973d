//! Where a session begins: at the saved cursor if the stream is still what it stands for, otherwise at
//! the newest checkpoint of which that is true.

use super::Session;
use crate::model::{Guard, Protocol, State, database::Cursor, losses, orphans, stream::Stream};

/// Whether the stream still has the cursor's last event.
pub(crate) fn has_tail(stream: &Stream, cursor: &Cursor) -> bool {
    cursor.tail.is_none_or(|(sequence, event)| {
        // A message that is missing in the middle says nothing about the end.
        match stream.get(sequence) {
            Some(found) => found.number == event,
            None => sequence <= stream.end(),
        }
    })
}

/// Where to begin.
fn find(protocol: &Protocol, state: &State) -> Cursor {
    let saved = state.database.cursor;
    if !protocol.has(Guard::TailCheck) || has_tail(&state.stream, &saved) {
        return saved;
    }
    let is_whole =
        |it: &&Cursor| it.tail_sequence() < saved.tail_sequence() && has_tail(&state.stream, it);
    let whole = state.database.checkpoints.iter().filter(is_whole);
    let newest = whole.max_by_key(|it| it.tail_sequence());
    newest.copied().unwrap_or_default()
}

/// Writers of aggregates that have to be restated end first: the function that restates takes their
/// locks.
pub(crate) fn must_wait(protocol: &Protocol, state: &State) -> bool {
    protocol.has(Guard::Orphans)
        && orphans::wait_for_writers(protocol, state, &find(protocol, state))
}

/// Looks at both ends before anything is published.
pub(crate) fn begin(protocol: &Protocol, state: &mut State, relay: usize) {
    end_others(state);
    let found = find(protocol, state);
    if found != state.database.cursor {
        move_back(protocol, state, found);
    }
    let looked_up = match protocol.has(Guard::Orphans) {
        true => orphans::reconcile(protocol, state),
        false => state.stream.end(),
    };
    let taken_back = losses::take_back(protocol, &mut state.database);
    let cursor = state.database.cursor;
    state.relays[relay].session = Some(Session {
        read: cursor,
        found: None,
        queue: Vec::new(),
        in_flight: Vec::new(),
        done: cursor,
        saved: cursor,
        is_over: false,
        looked_up,
        missing: losses::known(&state.database),
        taken_back,
        missed: None,
        has_failed: false,
    });
}

/// By taking the next number.
fn end_others(state: &mut State) {
    for it in &mut state.relays {
        if let Some(session) = &mut it.session {
            session.is_over = true;
        }
    }
    for it in &mut state.late_saves {
        it.is_over = true;
    }
}

/// Readers are told before anything is published.
fn move_back(protocol: &Protocol, state: &mut State, checkpoint: Cursor) {
    let sequence = checkpoint.tail_sequence();
    let database = &mut state.database;
    database.cursor = checkpoint;
    let kept = |it: &Cursor| it.tail_sequence() <= sequence;
    database.checkpoints.retain(kept);
    database.looked_up_to = database.looked_up_to.min(sequence);
    losses::forget_above(protocol, state, sequence);
    state.stream.incarnations.push(sequence);
}
