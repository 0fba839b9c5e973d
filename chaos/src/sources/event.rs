//! A user and an event, as any of the servers has it.

use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::{Context, bail};
use chrono::DateTime;
use serde_json::Value;
use uuid::Uuid;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct User {
    pub(crate) id: i64,
    pub(crate) version: i64,
    pub(crate) name: String,
    pub(crate) email: String,
    /// Milliseconds since 1970.
    pub(crate) updated_at: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Created,
    Updated,
    Deleted,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) event_id: Uuid,
    pub(crate) kind: Kind,
    /// After the change; before it, at the version of the deletion, if the user was deleted.
    pub(crate) user: User,
}

impl Event {
    pub(crate) fn parse(event_id: Uuid, kind: &str, payload: &Value) -> anyhow::Result<Self> {
        let kind = match kind {
            "user_created" => Kind::Created,
            "user_updated" => Kind::Updated,
            "user_deleted" => Kind::Deleted,
            other => bail!("an event of the type {other:?}"),
        };
        let number = |field: &str| payload[field].as_i64().with_context(|| field.to_owned());
        let text = |field: &str| payload[field].as_str().with_context(|| field.to_owned());
        let updated_at = DateTime::parse_from_rfc3339(text("updated_at")?)?;
        let user = User {
            id: number("id")?,
            version: number("version")?,
            name: text("name")?.to_owned(),
            email: text("email")?.to_owned(),
            updated_at: updated_at.timestamp_millis(),
        };
        Ok(Self {
            event_id,
            kind,
            user,
        })
    }

    /// Equal for equal events.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.kind, &self.user).hash(&mut hasher);
        hasher.finish()
    }
}
