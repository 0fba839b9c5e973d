//! Publishing: in the order of the ledger, one event of an aggregate at a time.

use super::{Flight, Session, Way, save};
use crate::model::{
    Guard, Protocol, State,
    stream::{self, Ack, Event},
};

impl Session {
    /// The next event that may be sent.
    pub(super) fn next(&self, protocol: &Protocol) -> Option<Event> {
        let is_free = |event: &&Event| {
            !protocol.has(Guard::OneInFlight)
                || self.in_flight.iter().all(|it| it.event.key != event.key)
        };
        self.queue.iter().find(is_free).copied()
    }

    /// The tail is the greatest sequence of all events that the cursor has passed. A new event comes
    /// last; false if that is not so.
    fn extend_tail(&mut self, event: Event, ack: Ack) -> bool {
        if ack.sequence > self.done.tail_sequence() {
            self.done.tail = Some((ack.sequence, event.number));
            return true;
        }
        ack.is_duplicate
    }
}

pub(crate) fn send(state: &mut State, relay: usize, id: u8) {
    if let Some(session) = &mut state.relays[relay].session
        && let Some(place) = session.queue.iter().position(|it| it.id == id)
    {
        let event = session.queue.remove(place);
        session.in_flight.push(Flight {
            event,
            way: Way::Sent,
            has_new_id: false,
        });
    }
}

/// One connection: messages arrive in the order in which they were sent.
pub(crate) fn store(state: &mut State, relay: usize) {
    let session = state.relays[relay].session.as_ref();
    if let Some(flight) = session.and_then(|it| it.first(|it| it.way == Way::Sent).copied()) {
        let ack = stream::publish(state, flight.event, flight.has_new_id);
        turn(state, relay, |it| it == Way::Sent, Way::Acknowledged(ack));
    }
}

pub(crate) fn lose_message(state: &mut State, relay: usize) {
    state.left.lost_messages -= 1;
    turn(state, relay, |it| it == Way::Sent, Way::Unknown);
}

pub(crate) fn lose_ack(state: &mut State, relay: usize) {
    state.left.lost_acks -= 1;
    let is_acknowledged = |it| matches!(it, Way::Acknowledged(_));
    turn(state, relay, is_acknowledged, Way::Unknown);
}

/// The first that is on this way.
fn turn(state: &mut State, relay: usize, is_it: impl Fn(Way) -> bool, way: Way) {
    if let Some(session) = &mut state.relays[relay].session
        && let Some(flight) = session.in_flight.iter_mut().find(|it| is_it(it.way))
    {
        flight.way = way;
    }
}

/// In the order of sending. After a failure the session ends: what comes then says nothing of the stream
/// that it began with.
pub(crate) fn conclude(protocol: &Protocol, state: &mut State, relay: usize) {
    let Some(session) = &mut state.relays[relay].session else {
        return;
    };
    let flight = session.in_flight.remove(0);
    match flight.way {
        Way::Acknowledged(ack) => acknowledged(protocol, session, flight, ack),
        _ => fail(session),
    }
    let counts = !protocol.has(Guard::StopAtFailure) && !session.in_flight.is_empty();
    if session.has_failed && !counts {
        save::end(protocol, state, relay);
    }
}

fn acknowledged(protocol: &Protocol, session: &mut Session, flight: Flight, ack: Ack) {
    let is_lost = ack.is_duplicate && session.missing.contains(ack.sequence);
    if is_lost && protocol.has(Guard::NewMessageId) {
        session.in_flight.push(Flight {
            way: Way::Sent,
            has_new_id: true,
            ..flight
        });
        return;
    }
    if !session.extend_tail(flight.event, ack) && protocol.has(Guard::TailCheck) {
        return fail(session);
    }
    if ack.sequence == session.looked_up + 1 {
        session.looked_up += 1;
    }
    session.done.pass(flight.event.id);
}

fn fail(session: &mut Session) {
    session.has_failed = true;
    session.queue.clear();
    session.found = None;
}
