//! What always holds.

use stateright::Property;

use crate::model::{
    Protocol, State,
    database::{Database, Row, User},
};

pub(crate) fn properties() -> Vec<Property<Protocol>> {
    vec![
        Property::always(
            "every write is applied or superseded",
            |protocol: &Protocol, state| !is_at_rest(protocol, state) || has_converged(state),
        ),
        Property::always("the copy never goes back", |_, state: &State| {
            !state.consumer.went_back
        }),
        Property::always("deleted users stay deleted", |_, state: &State| {
            !state.consumer.is_resurrected
        }),
        Property::always("versions on the stream increase", |_, state: &State| {
            !state.stream.is_out_of_order
        }),
        Property::always(
            "the cursor passes nothing unpublished",
            |_, state: &State| passes_only_published(state),
        ),
    ]
}

/// Nothing is left to do.
fn is_at_rest(protocol: &Protocol, state: &State) -> bool {
    let mut actions = Vec::new();
    protocol.progress(state, &mut actions);
    actions.is_empty()
}

/// The copy says what the database says: of deleted users that they are not there.
fn has_converged(state: &State) -> bool {
    let mut users = state.database.users.iter().zip(&state.consumer.store.copy);
    users.all(|(user, copy)| living(*user) == living(*copy))
}

fn living(user: User) -> Option<User> {
    Some(user).filter(|it| it.version > 0 && !it.is_deleted)
}

fn passes_only_published(state: &State) -> bool {
    let Database {
        rows,
        cursor,
        superseded,
        ..
    } = &state.database;
    let mut rows = rows.iter().zip(1_u8..);
    rows.all(|(row, id)| match row {
        _ if superseded.contains(id) || !cursor.has_passed(id) => true,
        Row::Open(_) => false,
        Row::Committed(event) => state.stream.acknowledged.contains(event.number),
        Row::RolledBack => true,
    })
}
