//! A document of the copy, read.

use chrono::{DateTime, Utc};
use mongodb::bson;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the copy has of a user.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Fields")]
pub(crate) enum Entry {
    Living(Notification),
    Deleted(Tombstone),
}

/// A user as readers see it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Notification {
    #[schema(minimum = 1, example = 1)]
    pub(crate) user_id: i64,
    #[schema(example = "Ada Lovelace")]
    pub(crate) name: String,
    #[schema(example = "ada@example.com")]
    pub(crate) email: String,
    /// When this version was written, in whole milliseconds.
    pub(crate) updated_at: DateTime<Utc>,
    /// The user's own count of changes.
    #[schema(minimum = 1, example = 1)]
    pub(crate) version: i64,
}

/// What is left of a deleted user.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Tombstone {
    pub(crate) user_id: i64,
    pub(crate) version: i64,
}

impl Entry {
    pub(crate) fn living(self) -> Option<Notification> {
        match self {
            Self::Living(it) => Some(it),
            Self::Deleted(_) => None,
        }
    }

    pub(crate) fn user_id(&self) -> i64 {
        match self {
            Self::Living(it) => it.user_id,
            Self::Deleted(it) => it.user_id,
        }
    }

    pub(crate) fn version(&self) -> i64 {
        match self {
            Self::Living(it) => it.version,
            Self::Deleted(it) => it.version,
        }
    }
}

#[derive(Deserialize)]
struct Fields {
    user_id: i64,
    version: i64,
    name: Option<String>,
    email: Option<String>,
    updated_at: Option<bson::DateTime>,
    deleted_at: Option<bson::DateTime>,
}

impl TryFrom<Fields> for Entry {
    type Error = &'static str;

    fn try_from(fields: Fields) -> Result<Self, Self::Error> {
        let (user_id, version) = (fields.user_id, fields.version);
        if fields.deleted_at.is_some() {
            return Ok(Self::Deleted(Tombstone { user_id, version }));
        }
        let date = fields.updated_at.ok_or("no date")?;
        Ok(Self::Living(Notification {
            user_id,
            name: fields.name.ok_or("no name")?,
            email: fields.email.ok_or("no address")?,
            updated_at: DateTime::from_timestamp_millis(date.timestamp_millis())
                .ok_or("a date beyond the calendar")?,
            version,
        }))
    }
}
