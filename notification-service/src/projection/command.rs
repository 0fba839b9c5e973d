//! The `update` commands that bring the copy up to date.

use mongodb::bson::{
    DateTime, RawArrayBuf, RawDocumentBuf, cstr, rawdoc, serialize_to_raw_document_buf,
};
use shared_events::{UserEvent, UserState};

use super::outcome::{Refusal, WriteOutcome};

/// What one command may hold. MongoDB takes 16 KiB more, for what is around the updates.
const MAX_UPDATE_BYTES: usize = 16 * 1024 * 1024;
/// In an array, an update also has its type, its index in decimal and a zero byte.
const ARRAY_ELEMENT_BYTES: usize = 12;
pub(super) const MAX_TIME_MS: i32 = 9_000;
const FIRST_VERSION: i64 = 1;
const FIRST_REVISION: i32 = 1;

pub(super) struct Command {
    pub(super) body: RawDocumentBuf,
    /// Which events it writes, by their place among all.
    pub(super) events: Vec<usize>,
}

/// How an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// New users are inserted without a comparison, at half the cost. If a document is there
    /// already it stays as it is, damaged or not: the event then needs the other form.
    InsertNew,
    /// Every event is compared with what is stored.
    Compare,
}

impl Form {
    fn inserts(self, event: &UserEvent) -> bool {
        self == Self::InsertNew && is_creation(event)
    }
}

pub(super) fn is_creation(event: &UserEvent) -> bool {
    matches!(event, UserEvent::UserCreated(state) if state.version == FIRST_VERSION)
}

/// Splits the events at `places` into commands that MongoDB takes; refuses those that fit into
/// none.
pub(super) fn commands(
    collection: &str,
    events: &[&UserEvent],
    places: &[usize],
    form: Form,
    outcomes: &mut [WriteOutcome],
) -> Vec<Command> {
    let mut commands = Vec::with_capacity(1);
    let mut open = Updates::default();
    for &place in places {
        let update = match update(events[place], form) {
            Ok(update) => update,
            Err(refusal) => {
                outcomes[place] = WriteOutcome::Refused(refusal);
                continue;
            }
        };
        let bytes = update.as_bytes().len() + ARRAY_ELEMENT_BYTES;
        if bytes > MAX_UPDATE_BYTES {
            outcomes[place] = WriteOutcome::Refused(Refusal::TooLarge { bytes });
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

/// Replaces the stored document if the event is newer or the document's version is damaged, and
/// inserts if there is none.
///
/// The guard is in the update, not in the filter: a filter that does not match would try to
/// insert, and each stale event would cost a duplicate key error.
fn update(event: &UserEvent, form: Form) -> Result<RawDocumentBuf, Refusal> {
    let id = event.state().id;
    let document = document(event)?;
    if form.inserts(event) {
        return Ok(
            rawdoc! { "q": { "_id": id }, "u": { "$setOnInsert": document }, "upsert": true },
        );
    }
    let is_newer = is_newer(event.state());
    // As a literal, or MongoDB would take a name such as "$email" for an expression.
    let document = rawdoc! { "$literal": document };
    Ok(rawdoc! {
        "q": { "_id": id },
        "u": [{ "$replaceWith": { "$cond": [is_newer, document, "$$ROOT"] } }],
        "upsert": true,
    })
}

/// Compares with the stored version, then with the stored revision.
///
/// MongoDB compares values of any two types: nothing, null and NaN come before all numbers,
/// strings and all else after them. What is left are fractions: no version is one. Conditions are
/// tried in their order, so an event that is newer pays for the first only.
fn is_newer(state: &UserState) -> RawDocumentBuf {
    let version = state.version;
    let mut conditions = RawArrayBuf::new();
    conditions.push(rawdoc! { "$lt": ["$version", version] });
    if state.revision > FIRST_REVISION {
        let stored = rawdoc! { "$ifNull": ["$revision", FIRST_REVISION] };
        conditions.push(rawdoc! { "$and": [
            { "$eq": ["$version", version] },
            { "$lt": [stored, state.revision] },
        ] });
    }
    conditions.push(rawdoc! { "$gt": ["$version", UserState::MAX_NUMBER] });
    conditions.push(rawdoc! { "$not": [{ "$in": [{ "$type": "$version" }, ["int", "long"]] }] });
    rawdoc! { "$or": conditions }
}

fn document(event: &UserEvent) -> Result<RawDocumentBuf, Refusal> {
    let state = event.state();
    let time = DateTime::from_millis(state.updated_at.timestamp_millis());
    let mut document = match event {
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
    };
    if state.revision > FIRST_REVISION {
        document.append(cstr!("revision"), state.revision);
    }
    if !matches!(event, UserEvent::UserDeleted(_)) {
        append_later_fields(&mut document, state)?;
    }
    Ok(document)
}

/// Stored as they come, so that a document says the same whichever release has written it.
fn append_later_fields(document: &mut RawDocumentBuf, state: &UserState) -> Result<(), Refusal> {
    if state.later_fields.is_empty() {
        return Ok(());
    }
    let fields = serialize_to_raw_document_buf(&state.later_fields);
    for field in fields.map_err(|_| Refusal::LaterFields)?.iter() {
        let (name, value) = field.map_err(|_| Refusal::LaterFields)?;
        document.append(name, value);
    }
    Ok(())
}
