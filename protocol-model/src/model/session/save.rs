//! Moving the saved cursor.

use super::{Session, end_session};
use crate::model::{Guard, Protocol, State, database::Cursor, orphans, stream::Event};

impl Session {
    /// What is done by now.
    pub(super) fn to_save(&self, protocol: &Protocol) -> Cursor {
        let mut cursor = self.done;
        if !protocol.has(Guard::CursorAfterAck) {
            for flight in &self.in_flight {
                cursor.pass(flight.event.id);
            }
        }
        cursor
    }
}

/// With a place to come back to. Not before what others have published below the tail was looked up.
pub(crate) fn save(protocol: &Protocol, state: &mut State, relay: usize) {
    let Some(session) = &state.relays[relay].session else {
        return;
    };
    let (is_over, to) = (session.is_over, session.to_save(protocol));
    let looked_up = session.looked_up;
    let tail = to.tail_sequence();
    if protocol.has(Guard::Strangers) && tail > looked_up {
        let is_orphan = |event: &Event| !state.database.has(*event);
        let strangers = (looked_up + 1..=tail).filter_map(|it| state.stream.get(it));
        if orphans::are_possible(protocol) && strangers.into_iter().any(|it| is_orphan(&it)) {
            return end_session(state, relay);
        }
    }
    let epoch = state.relays[relay].epoch;
    if !state.database.save(protocol, epoch, is_over, to) {
        return end_session(state, relay);
    }
    if let Some(session) = &mut state.relays[relay].session {
        session.saved = to;
        session.looked_up = session.looked_up.max(tail);
    }
    if to.tail.is_some() && !state.database.checkpoints.contains(&to) {
        state.database.checkpoints.push(to);
    }
}

/// What is done is saved before the session ends.
pub(super) fn end(protocol: &Protocol, state: &mut State, relay: usize) {
    let session = state.relays[relay].session.as_ref();
    if session.is_some_and(|it| it.to_save(protocol) != it.saved) {
        save(protocol, state, relay);
    }
    end_session(state, relay);
}
