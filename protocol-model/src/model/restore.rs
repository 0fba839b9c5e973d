//! A database that is put back to an earlier state.

use crate::model::{
    Action, State,
    database::{Database, Row},
    session::end_session,
};

pub(crate) fn faults(state: &State, actions: &mut Vec<Action>) {
    if state.left.restores > 0 {
        actions.push(match state.backup {
            None => Action::BackUp,
            Some(_) => Action::Restore,
        });
    }
}

/// As `pg_dump` or a standby: what is committed.
pub(crate) fn back_up(state: &mut State) {
    let mut backup = state.database.clone();
    for row in &mut backup.rows {
        if matches!(row, Row::Open(_)) {
            *row = Row::RolledBack;
        }
    }
    state.backup = Some(backup);
}

/// Ids and versions are given out again; event numbers and epochs are not (by their time). Statements
/// of sessions that began before change nothing: they name the database that they belong to.
pub(crate) fn restore(state: &mut State) {
    state.left.restores -= 1;
    let epoch = state.database.epoch;
    if let Some(backup) = state.backup.take() {
        state.database = Database { epoch, ..backup };
    }
    for relay in 0..state.relays.len() {
        end_session(state, relay);
        state.relays[relay].epoch = 0;
    }
    state.late_saves.clear();
}
