//! Producers: one statement changes the row and appends the event. Ids are drawn before the commit; who
//! changes an aggregate holds its lock until then.

use crate::model::{
    Action, State,
    database::{Row, User},
    stream::Event,
};

pub(crate) fn begin(state: &State, actions: &mut Vec<Action>) {
    if state.left.writes == 0 {
        return;
    }
    for (key, user) in (0_u8..).zip(&state.database.users) {
        let is_locked = state.database.open().any(|event| event.key == key);
        if is_locked || user.is_deleted {
            continue;
        }
        let write = |deletes| Action::Write { key, deletes };
        actions.push(write(false));
        if user.version > 0 {
            actions.push(write(true));
        }
    }
}

pub(crate) fn progress(state: &State, actions: &mut Vec<Action>) {
    for event in state.database.open() {
        actions.push(Action::Commit { id: event.id });
        actions.push(Action::RollBack { id: event.id });
    }
}

pub(crate) fn write(state: &mut State, key: u8, deletes: bool) {
    state.left.writes -= 1;
    state.events += 1;
    let event = Event {
        number: state.events,
        id: state.database.next_id(),
        key,
        version: state.database.users[usize::from(key)].version + 1,
        deletes,
    };
    state.database.rows.push(Row::Open(event));
}

pub(crate) fn commit(state: &mut State, id: u8) {
    let row = &mut state.database.rows[usize::from(id) - 1];
    if let Row::Open(event) = *row {
        *row = Row::Committed(event);
        state.database.users[usize::from(event.key)] = User::of(event);
    }
}

pub(crate) fn roll_back(state: &mut State, id: u8) {
    state.database.rows[usize::from(id) - 1] = Row::RolledBack;
}

impl User {
    pub(crate) fn of(event: Event) -> Self {
        Self {
            version: event.version,
            is_deleted: event.deletes,
            content: event.number,
        }
    }
}
