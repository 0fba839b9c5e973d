//! Messages that left the stream before their time: what is missing is noted with the events that stood
//! there, and the cursor takes them back.

use crate::model::{
    Guard, Protocol, State,
    database::{Cursor, Database, Loss},
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

/// What a look found, until it is noted: publishing goes on meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Found {
    sequences: Ids,
    ids: Ids,
    cursor: Cursor,
}

/// (Which events stood there is told by checkpoints and by what is still around them; here it is known.)
pub(crate) fn look_up(state: &mut State, relay: usize) {
    let State {
        database, stream, ..
    } = &*state;
    let is_lost = |event: &&Event| {
        let is_passed = database.cursor.has_passed(event.id);
        is_passed && !database.superseded.contains(event.id) && !stream.has(event.number)
    };
    let found = Found {
        sequences: unknown(state),
        ids: database
            .committed()
            .filter(is_lost)
            .map(|it| it.id)
            .collect(),
        cursor: database.cursor,
    };
    if let Some(session) = &mut state.relays[relay].session {
        session.missed = Some(found);
    }
}

/// Under the lease.
pub(crate) fn note(state: &mut State, relay: usize) {
    let session = state.relays[relay].session.as_mut();
    let Some(found) = session.and_then(|session| session.missed.take()) else {
        return;
    };
    if state.relays[relay].epoch == state.database.epoch {
        let losses = found.sequences.iter().map(|sequence| Loss {
            sequence,
            ids: found.ids,
            looked_up_at: Some(found.cursor),
            refilled_through: None,
        });
        state.database.losses.extend(losses);
    }
}

/// Events that are to be published again become gaps of the cursor. Returns the losses that they belong
/// to.
pub(crate) fn take_back(protocol: &Protocol, database: &mut Database) -> Ids {
    let cursor = database.cursor;
    for loss in &mut database.losses {
        if let Some(before) = loss.looked_up_at.take()
            && protocol.has(Guard::PassedMeanwhile)
        {
            let passed = (1..=cursor.last_id).filter(|id| !before.has_passed(*id));
            loss.ids = loss.ids.union(passed.collect());
        }
    }
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
