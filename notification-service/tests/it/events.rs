//! Events as the relay publishes them.

use std::sync::LazyLock;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
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

/// Recent: MongoDB removes a tombstone that is older than `TOMBSTONE_TTL` within a minute.
pub(crate) fn time_of(version: i64) -> DateTime<Utc> {
    static START: LazyLock<DateTime<Utc>> =
        LazyLock::new(|| Utc::now().trunc_subsecs(3) - TimeDelta::hours(1));
    *START + TimeDelta::milliseconds(version)
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
