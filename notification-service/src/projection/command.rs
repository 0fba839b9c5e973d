//! The `update` commands that bring the copy up to date.

use mongodb::bson::{DateTime, RawArrayBuf, RawDocumentBuf, rawdoc};
use shared_events::UserEvent;

use super::outcome::{Outcome, Refusal};

/// What one command may hold. MongoDB takes 16 KiB more, for what is around the updates.
const MAX_UPDATE_BYTES: usize = 16 * 1024 * 1024;
/// In an array, an update also has its type, its index in decimal and a zero byte.
const ARRAY_ELEMENT_BYTES: usize = 12;
const MAX_TIME_MS: i32 = 9_000;
const FIRST_VERSION: i64 = 1;

pub(super) struct Command {
    pub(super) body: RawDocumentBuf,
    /// Which events it writes, by their place among all.
    pub(super) events: Vec<usize>,
}

/// Splits the events into commands that MongoDB takes; refuses those that fit into none.
pub(super) fn commands(
    collection: &str,
    events: &[&UserEvent],
    outcomes: &mut [Outcome],
) -> Vec<Command> {
    let mut commands = Vec::with_capacity(1);
    let mut open = Updates::default();
    for (place, event) in events.iter().enumerate() {
        let update = update(event);
        let bytes = update.as_bytes().len() + ARRAY_ELEMENT_BYTES;
        if bytes > MAX_UPDATE_BYTES {
            outcomes[place] = Outcome::Refused(Refusal::TooLarge { bytes });
            continue;
        }
        if open.bytes + bytes > MAX_UPDATE_BYTES {
            commands.push(std::mem::take(&mut open).into_command(collection));
        }
        open.updates.push(update);
        open.bytes += bytes;
        open.events.push(place);
    }
    if !open.events.is_empty() {
        commands.push(open.into_command(collection));
    }
    commands
}

#[derive(Default)]
struct Updates {
    updates: RawArrayBuf,
    bytes: usize,
    events: Vec<usize>,
}

impl Updates {
    fn into_command(self, collection: &str) -> Command {
        let body = rawdoc! {
            "update": collection,
            "updates": self.updates,
            "ordered": false,
            "writeConcern": { "w": "majority", "j": true, "wtimeout": MAX_TIME_MS },
            "maxTimeMS": MAX_TIME_MS,
        };
        Command {
            body,
            events: self.events,
        }
    }
}

/// Replaces the stored document if its version is lower, and inserts if there is none.
///
/// The guard is in the update, not in the filter: a filter that does not match would try to
/// insert, and each stale event would cost a duplicate key error.
fn update(event: &UserEvent) -> RawDocumentBuf {
    let state = event.state();
    if state.version == FIRST_VERSION {
        // Newer than nothing: whatever is there stays. Without a pipeline it costs half as much.
        return rawdoc! {
            "q": { "_id": state.id },
            "u": { "$setOnInsert": document(event) },
            "upsert": true,
        };
    }
    let is_newer = rawdoc! { "$lt": [{ "$ifNull": ["$version", 0_i64] }, state.version] };
    // As a literal, or MongoDB would take a name such as "$email" for an expression.
    let document = rawdoc! { "$literal": document(event) };
    rawdoc! {
        "q": { "_id": state.id },
        "u": [{ "$replaceWith": { "$cond": [is_newer, document, "$$ROOT"] } }],
        "upsert": true,
    }
}

fn document(event: &UserEvent) -> RawDocumentBuf {
    let state = event.state();
    let time = DateTime::from_millis(state.updated_at.timestamp_millis());
    match event {
        UserEvent::UserCreated(_) | UserEvent::UserUpdated(_) => rawdoc! {
            "_id": state.id,
            "user_id": state.id,
            "name": state.name.as_str(),
            "email": state.email.as_str(),
            "updated_at": time,
            "version": state.version,
        },
        // A tombstone: enough to turn late events away, and nothing personal.
        UserEvent::UserDeleted(_) => rawdoc! {
            "_id": state.id,
            "user_id": state.id,
            "version": state.version,
            "deleted_at": time,
        },
    }
}
