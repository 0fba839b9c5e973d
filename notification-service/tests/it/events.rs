//! Events as the relay publishes them.

use chrono::{DateTime, Utc};
use shared_events::{UserEvent, UserState};

pub(crate) fn state(id: i64, version: i64) -> UserState {
    UserState {
        id,
        name: format!("Ada {version}"),
        email: format!("ada-{version}@example.com"),
        updated_at: time_of(version),
        version,
        revision: 1,
        later_fields: serde_json::Map::new(),
    }
}

pub(crate) fn time_of(version: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_767_323_045_678 + version).expect("in range")
}

pub(crate) fn created(id: i64) -> UserEvent {
    UserEvent::UserCreated(state(id, 1))
}

pub(crate) fn updated(id: i64, version: i64) -> UserEvent {
    UserEvent::UserUpdated(state(id, version))
}

pub(crate) fn deleted(id: i64, version: i64) -> UserEvent {
    UserEvent::UserDeleted(state(id, version))
}

pub(crate) fn named(id: i64, version: i64, name: &str) -> UserEvent {
    UserEvent::UserUpdated(UserState {
        name: name.to_owned(),
        ..state(id, version)
    })
}
