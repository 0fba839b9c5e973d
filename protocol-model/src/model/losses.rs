//! Messages that left the stream before their time: what is missing is noted with the events that stood
//! there, and the cursor takes them back.

use crate::model::{
    Guard, Protocol, State,
    database::{Database, Loss},
    ids::Ids,
    stream::Event,
};

/// The missing sequences up to the saved end that are not noted yet.
pub(crate) fn unknown(state: &State) -> Ids {
    let known = known(&state.database);
    let missing = (state.stream.missing()).up_to(state.database.cursor.tail_sequence());
    let is_unknown = |it: &u8| *it > state.database.unseen_up_to && !known.contains(*it);
    missing.iter().filter(is_unknown).collect()
}

pub(crate) fn known(database: &Database) -> Ids {
    database.losses.iter().map(|it| it.sequence).collect()
}

/// Under the lease. (Which events stood there is told by checkpoints and by what
/// is still around them; here it is known.)
pub(crate) fn note(state: &mut State, relay: usize) {
    let unknown = unknown(state);
    let State {
        database, stream, ..
    } = state;
    if state.relays[relay].epoch == database.epoch {
        let is_lost = |event: &&Event| {
            let is_passed = database.cursor.has_passed(event.id);
            is_passed && !database.superseded.contains(event.id) && !stream.has(event.number)
        };
        let ids = database.committed().filter(is_lost).map(|it| it.id);
        let ids: Ids = ids.collect();
        let losses = unknown.iter().map(|sequence| Loss {
            sequence,
            ids,
            refilled_through: None,
        });
        database.losses.extend(losses);
    }
}

/// Events that are to be published again become gaps of the cursor. Returns the losses that they belong
/// to.
pub(crate) fn take_back(database: &mut Database) -> Ids {
    let open = |it: &&Loss| it.refilled_through.is_none();
    let sequences = database.losses.iter().filter(open).map(|it| it.sequence);
    let sequences: Ids = sequences.collect();
    for loss in database.losses.iter().filter(open) {
        let cursor = &mut database.cursor;
        cursor.gaps = cursor.gaps.union(loss.ids.up_to(cursor.last_id));
    }
    sequences
}

/// If the saved cursor has passed all of the events, they are on the stream again. Only for losses that this
/// session has taken back: of others the saved cursor does not know yet.
pub(crate) fn are_refilled(database: &Database, taken_back: Ids) -> bool {
    let mut open = (database.losses.iter()).filter(|it| it.refilled_through.is_none());
    let is_own = open.clone().any(|it| taken_back.contains(it.sequence));
    is_own && open.all(|it| it.ids.iter().all(|id| database.cursor.has_passed(id)))
}

/// They are noted as refilled.
pub(crate) fn finish(state: &mut State, relay: usize) {
    let Some(session) = &state.relays[relay].session else {
        return;
    };
    let (database, taken_back) = (&mut state.database, session.taken_back);
    let cursor = database.cursor;
    for loss in &mut database.losses {
        if loss.refilled_through.is_none() && taken_back.contains(loss.sequence) {
            loss.refilled_through = Some(cursor.tail_sequence());
        }
    }
}

/// The stream goes on from this sequence: what was refilled above it is lost again.
pub(crate) fn forget_above(protocol: &Protocol, state: &mut State, sequence: u8) {
    let State {
        database, stream, ..
    } = state;
    if !protocol.has(Guard::KnownBeginning) {
        database.unseen_up_to = stream.first() - 1;
    }
    database.losses.retain(|it| it.sequence <= sequence);
    for loss in &mut database.losses {
        (loss.refilled_through).take_if(|through| *through > sequence);
    }
}
