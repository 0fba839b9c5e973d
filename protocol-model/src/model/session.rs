//! A session of the relay: from the saved cursor to the first failure.

mod publish;
mod read;
mod save;
pub(crate) mod start;

use crate::model::{
    Action, Guard, Protocol, State,
    database::{Cursor, Row},
    ids::Ids,
    losses::{self, Found},
    orphans,
    stream::{Ack, Event},
};

pub(crate) use self::{
    publish::{conclude, lose_ack, lose_message, send, store},
    read::{abandon_gap, read, read_gaps},
    save::save,
    start::begin,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Session {
    /// How far it has read.
    read: Cursor,
    /// What the first of two statements found.
    found: Option<Vec<Event>>,
    /// Read and not sent, in order.
    queue: Vec<Event>,
    pub(crate) in_flight: Vec<Flight>,
    /// What is acknowledged or need not be published.
    pub(crate) done: Cursor,
    /// As it was last saved.
    pub(crate) saved: Cursor,
    /// Another relay's session has begun, without its knowledge.
    pub(crate) is_over: bool,
    /// Up to this sequence, messages were looked up or are its own.
    looked_up: u8,
    /// Sequences that were missing when it began, and those whose events it is to publish again.
    missing: Ids,
    pub(crate) taken_back: Ids,
    /// What the look found that is not noted yet.
    pub(crate) missed: Option<Found>,
    /// It only concludes what it has in flight.
    has_failed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Flight {
    pub(crate) event: Event,
    pub(crate) way: Way,
    /// Sent again under another message id.
    has_new_id: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    Sent,
    Acknowledged(Ack),
    /// No acknowledgement came in time.
    Unknown,
}

/// A statement that moves the cursor, of a session that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct LateSave {
    pub(crate) epoch: u8,
    /// Another session has begun since.
    pub(crate) is_over: bool,
    pub(crate) to: Cursor,
}

/// What it has sent may still arrive, at the stream or at the database.
pub(crate) fn end_session(state: &mut State, relay: usize) {
    let it = &mut state.relays[relay];
    let Some(session) = it.session.take() else {
        return;
    };
    if state.left.late_messages > 0 {
        let sent = session.in_flight.iter().filter(|it| it.way == Way::Sent);
        state.late_messages.extend(sent.map(|it| it.event));
    }
    if state.left.late_saves > 0 && session.done != session.saved {
        state.late_saves.push(LateSave {
            epoch: it.epoch,
            is_over: session.is_over,
            to: session.done,
        });
    }
    if it.epoch != state.database.epoch {
        it.epoch = 0;
    }
}

impl Session {
    pub(crate) fn first(&self, is_it: impl Fn(&Flight) -> bool) -> Option<&Flight> {
        self.in_flight.iter().find(|it| is_it(it))
    }

    pub(crate) fn progress(
        &self,
        protocol: &Protocol,
        state: &State,
        relay: usize,
        actions: &mut Vec<Action>,
    ) {
        if !self.has_failed {
            self.read_on(protocol, state, relay, actions);
            if let Some(event) = self.next(protocol) {
                let id = event.id;
                actions.push(Action::Send { relay, id });
            }
        }
        if let Some(flight) = self.first(|it| it.way == Way::Sent) {
            let id = flight.event.id;
            actions.push(Action::Store { relay, id });
        }
        if let Some(flight) = self.in_flight.first()
            && flight.way != Way::Sent
        {
            let id = flight.event.id;
            actions.push(Action::Conclude { relay, id });
        }
        if self.to_save(protocol) != self.saved {
            actions.push(Action::Save { relay });
        }
        self.look(protocol, state, relay, actions);
    }

    fn read_on(&self, protocol: &Protocol, state: &State, relay: usize, actions: &mut Vec<Action>) {
        if self.found.is_some() {
            actions.push(Action::ReadGaps { relay });
            return;
        }
        if self.finds_something(protocol, state) {
            actions.push(Action::Read { relay });
        }
        for id in self.read.gaps.iter() {
            let is_dead = match state.database.row(id) {
                Some(Row::RolledBack) => true,
                Some(Row::Open(_)) => !protocol.has(Guard::GapBound),
                _ => false,
            };
            if is_dead {
                actions.push(Action::AbandonGap { relay, id });
            }
        }
    }

    /// Once a second, at both ends.
    fn look(&self, protocol: &Protocol, state: &State, relay: usize, actions: &mut Vec<Action>) {
        if protocol.has(Guard::TailCheck) && !start::has_tail(&state.stream, &state.database.cursor)
        {
            actions.push(Action::NoticeLostTail { relay });
        }
        if self.missed.is_some() {
            actions.push(Action::NoteLoss { relay });
        } else if protocol.has(Guard::Refill) && !losses::unknown(state).is_empty() {
            actions.push(Action::LookUpLoss { relay });
        }
        let is_owner = state.relays[relay].epoch == state.database.epoch;
        if is_owner && losses::are_refilled(&state.database, self.taken_back) {
            actions.push(Action::NoteRefill { relay });
        }
        if protocol.has(Guard::Strangers) && orphans::are_above(protocol, state, self.looked_up) {
            actions.push(Action::NoticeOrphans { relay });
        }
    }
}
