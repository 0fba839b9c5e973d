//! Writers, relays, the stream, the consumer and the copy, step by step.

mod action;
mod bounds;
mod consumer;
mod database;
mod ids;
mod invariants;
mod losses;
mod orphans;
mod relay;
mod restore;
mod scenarios;
mod session;
mod store;
mod stream;
mod writers;

use stateright::{Model, Property};

pub use self::{
    action::{Action, STEPS, Step},
    bounds::Bounds,
    scenarios::{NEEDED, Needed, SCENARIOS, Scenario},
};
use self::{
    consumer::Consumer,
    database::Database,
    relay::Relay,
    session::LateSave,
    stream::{Event, Stream},
};
use crate::Guard;

/// The protocol within bounds, with some guards switched off or none.
#[derive(Debug, Clone)]
pub struct Protocol {
    pub bounds: Bounds,
    pub without: &'static [Guard],
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    database: Database,
    /// What a restore brings back.
    backup: Option<Database>,
    stream: Stream,
    relays: Vec<Relay>,
    /// Sent by a session that has ended, and perhaps still on the way.
    late_messages: Vec<Event>,
    late_saves: Vec<LateSave>,
    consumer: Consumer,
    /// What the faults and the writers may still do.
    left: Bounds,
    /// Event numbers that were given out, whatever became of them.
    events: u8,
}

impl Protocol {
    fn has(&self, guard: Guard) -> bool {
        !self.without.contains(&guard)
    }

    /// What goes on by itself as long as there is something to do; everything else is a fault, or a
    /// client's.
    fn progress(&self, state: &State, actions: &mut Vec<Action>) {
        writers::progress(state, actions);
        relay::progress(self, state, actions);
        consumer::progress(self, state, actions);
        store::progress(self, state, actions);
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            database: Database::new(self.bounds.keys),
            backup: None,
            stream: Stream::default(),
            relays: vec![Relay::default(); self.bounds.relays.into()],
            late_messages: Vec::new(),
            late_saves: Vec::new(),
            consumer: Consumer::new(self.bounds.keys),
            left: self.bounds,
            events: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.progress(state, actions);
        writers::begin(state, actions);
        restore::faults(state, actions);
        relay::faults(state, actions);
        stream::faults(state, actions);
        consumer::faults(state, actions);
        store::faults(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Write { key, deletes } => writers::write(&mut next, key, deletes),
            Action::Commit { id } => writers::commit(&mut next, id),
            Action::RollBack { id } => writers::roll_back(&mut next, id),
            Action::BackUp => restore::back_up(&mut next),
            Action::Restore => restore::restore(&mut next),
            Action::Acquire { relay } => relay::acquire(&mut next, relay),
            Action::Begin { relay } => session::begin(self, &mut next, relay),
            Action::Read { relay } => session::read(self, &mut next, relay),
            Action::ReadGaps { relay } => session::read_gaps(self, &mut next, relay),
            Action::AbandonGap { relay, id } => session::abandon_gap(&mut next, relay, id),
            Action::Send { relay, id } => session::send(&mut next, relay, id),
            Action::Store { relay, .. } => session::store(&mut next, relay),
            Action::LoseMessage { relay, .. } => session::lose_message(&mut next, relay),
            Action::LoseAck { relay, .. } => session::lose_ack(&mut next, relay),
            Action::Conclude { relay, .. } => session::conclude(self, &mut next, relay),
            Action::Save { relay } => session::save(self, &mut next, relay),
            Action::NoticeLostTail { relay } | Action::NoticeOrphans { relay } => {
                session::end_session(&mut next, relay);
            }
            Action::LookUpLoss { relay } => losses::look_up(&mut next, relay),
            Action::NoteLoss { relay } => {
                losses::note(&mut next, relay);
                session::end_session(&mut next, relay);
            }
            Action::NoteRefill { relay } => losses::finish(&mut next, relay),
            Action::CrashRelay { relay } => relay::crash(&mut next, relay),
            Action::ArriveLate { number } => stream::arrive_late(&mut next, number),
            Action::ArriveSave => relay::arrive_save(self, &mut next),
            Action::LoseTail { messages } => stream::lose_tail(&mut next, messages),
            Action::LoseMessageOfStream { sequence } => stream::lose(&mut next, sequence),
            Action::ForgetDuplicates => stream::forget_duplicates(&mut next),
            Action::Handle { sequence } => consumer::handle(self, &mut next, sequence),
            Action::Finish { .. } => consumer::finish(self, &mut next),
            Action::CrashConsumer => consumer::crash(&mut next),
            Action::Rewind => consumer::rewind(&mut next),
            Action::Look => store::look(self, &mut next),
            Action::ArrivePosition => store::arrive_position(&mut next),
            Action::GoBack => store::go_back(self, &mut next),
            Action::BackUpCopy => store::back_up(&mut next),
            Action::PutBack => store::put_back(&mut next),
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        invariants::properties()
    }
}
