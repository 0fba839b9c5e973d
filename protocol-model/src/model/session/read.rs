//! Reading the ledger.

use super::Session;
use crate::model::{Guard, Protocol, State, stream::Event};

impl Session {
    pub(super) fn finds_something(&self, protocol: &Protocol, state: &State) -> bool {
        let is_there =
            |event: &Event| self.is_new(event) || protocol.has(Guard::Gaps) && self.is_late(event);
        state.database.committed().any(is_there)
    }

    fn is_new(&self, event: &Event) -> bool {
        event.id > self.read.last_id
    }

    fn is_late(&self, event: &Event) -> bool {
        self.read.gaps.contains(event.id)
    }

    fn select(&self, state: &State, is_it: impl Fn(&Self, &Event) -> bool) -> Vec<Event> {
        let events = state.database.committed().copied();
        events.filter(|event| is_it(self, event)).collect()
    }

    /// Superseded events are passed over.
    fn pass(&mut self, events: Vec<Event>, state: &State) {
        for event in events {
            self.read.pass(event.id);
            match state.database.superseded.contains(event.id) {
                true => self.done.pass(event.id),
                false => self.queue.push(event),
            }
        }
    }
}

/// The first of two statements: new events.
pub(crate) fn read(protocol: &Protocol, state: &mut State, relay: usize) {
    change(state, relay, |session, state| {
        let has_gaps = !session.read.gaps.is_empty();
        if !protocol.has(Guard::Gaps) {
            let new = session.select(state, Session::is_new);
            session.pass(new, state);
            // What was leapt over is forgotten.
            session.read.gaps = Default::default();
        } else if !has_gaps {
            let new = session.select(state, Session::is_new);
            session.pass(new, state);
        } else if protocol.has(Guard::NewFirst) {
            session.found = Some(session.select(state, Session::is_new));
        } else {
            session.found = Some(session.select(state, Session::is_late));
        }
    });
}

/// The second one: those that fill gaps. They come before the new ones.
pub(crate) fn read_gaps(protocol: &Protocol, state: &mut State, relay: usize) {
    change(state, relay, |session, state| {
        let Some(found) = session.found.take() else {
            return;
        };
        let (late, new) = match protocol.has(Guard::NewFirst) {
            true => (session.select(state, Session::is_late), found),
            false => (found, session.select(state, Session::is_new)),
        };
        session.pass(late, state);
        session.pass(new, state);
    });
}

/// Its transaction has ended, and the same snapshot does not show an event.
pub(crate) fn abandon_gap(state: &mut State, relay: usize, id: u8) {
    change(state, relay, |session, _| {
        session.read.pass(id);
        session.done.pass(id);
    });
}

fn change(state: &mut State, relay: usize, change: impl FnOnce(&mut Session, &State)) {
    if let Some(mut session) = state.relays[relay].session.take() {
        change(&mut session, state);
        state.relays[relay].session = Some(session);
    }
}
