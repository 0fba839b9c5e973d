//! Relays: who has the lease, and when a session begins and ends.

use crate::model::{
    Action, Protocol, State,
    session::{Flight, LateSave, Session, Way, end_session, start},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Relay {
    /// 0 while it stands by. It may be that of an earlier lease, without its knowledge.
    pub(crate) epoch: u8,
    pub(crate) session: Option<Session>,
}

pub(crate) fn progress(protocol: &Protocol, state: &State, actions: &mut Vec<Action>) {
    let is_held = is_held(state);
    let may_begin = !start::must_wait(protocol, state);
    for (relay, it) in state.relays.iter().enumerate() {
        match &it.session {
            Some(session) => session.progress(protocol, state, relay, actions),
            None if may_begin && it.epoch > 0 && it.epoch == state.database.epoch => {
                actions.push(Action::Begin { relay });
            }
            // Otherwise the lease expires only if its owner is paused.
            None if !is_held => actions.push(Action::Acquire { relay }),
            None => {}
        }
    }
}

fn is_held(state: &State) -> bool {
    let epoch = state.database.epoch;
    epoch > 0 && state.relays.iter().any(|it| it.epoch == epoch)
}

pub(crate) fn faults(state: &State, actions: &mut Vec<Action>) {
    let left = &state.left;
    let is_held = is_held(state);
    for (relay, it) in state.relays.iter().enumerate() {
        if left.takeovers > 0 && is_held && it.epoch != state.database.epoch {
            actions.push(Action::Acquire { relay });
        }
        if left.relay_crashes > 0 && it.epoch > 0 {
            actions.push(Action::CrashRelay { relay });
        }
        let Some(session) = &it.session else { continue };
        let first = |is_it: fn(&Flight) -> bool| session.first(is_it).map(|it| it.event.id);
        if left.lost_messages > 0
            && let Some(id) = first(|it| it.way == Way::Sent)
        {
            actions.push(Action::LoseMessage { relay, id });
        }
        if left.lost_acks > 0
            && let Some(id) = first(|it| matches!(it.way, Way::Acknowledged(_)))
        {
            actions.push(Action::LoseAck { relay, id });
        }
    }
    if left.late_saves > 0 && !state.late_saves.is_empty() {
        actions.push(Action::ArriveSave);
    }
}

/// The owner before may be paused, and does not know of it.
pub(crate) fn acquire(state: &mut State, relay: usize) {
    if is_held(state) {
        state.left.takeovers -= 1;
    }
    end_session(state, relay);
    state.database.epoch += 1;
    state.relays[relay].epoch = state.database.epoch;
}

pub(crate) fn crash(state: &mut State, relay: usize) {
    state.left.relay_crashes -= 1;
    end_session(state, relay);
    state.relays[relay].epoch = 0;
}

pub(crate) fn arrive_save(protocol: &Protocol, state: &mut State) {
    state.left.late_saves -= 1;
    let LateSave { epoch, is_over, to } = state.late_saves.remove(0);
    state.database.save(protocol, epoch, is_over, to);
}
