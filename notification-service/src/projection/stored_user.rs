//! A document of the copy, read.

use chrono::{DateTime, Utc};
use mongodb::bson::{self, RawDocument};
use serde::{Deserialize, Serialize};
use shared_events::UserState;
use utoipa::ToSchema;

use crate::mongo;

/// What the copy has of a user.
#[derive(Debug, Clone)]
pub(crate) enum StoredUser {
    Living(Notification),
    Deleted(Tombstone),
}

/// A document that is none of ours: somebody else has written it, or changed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a damaged document")]
pub(crate) struct Damaged {
    pub(crate) user_id: Option<i64>,
    /// If that at least can be read: a repair has to exceed it.
    pub(crate) version: Option<i64>,
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

impl StoredUser {
    pub(crate) fn read(document: &RawDocument) -> Result<Self, Damaged> {
        let fields = bson::deserialize_from_slice::<StoredFields>(document.as_bytes());
        let user = fields.ok().and_then(StoredFields::into_stored_user);
        user.ok_or_else(|| Damaged {
            user_id: number_of_user(document, "_id"),
            version: number_of_user(document, "version"),
        })
    }

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
struct StoredFields {
    _id: i64,
    user_id: i64,
    version: i64,
    revision: Option<i32>,
    name: Option<String>,
    email: Option<String>,
    updated_at: Option<bson::DateTime>,
    deleted_at: Option<bson::DateTime>,
}

impl StoredFields {
    fn into_stored_user(self) -> Option<StoredUser> {
        let numbers = 1..=UserState::MAX_NUMBER;
        let (user_id, version) = (self.user_id, self.version);
        let is_ours = user_id == self._id
            && numbers.contains(&user_id)
            && numbers.contains(&version)
            && self.revision.is_none_or(|revision| revision >= 1);
        if !is_ours {
            return None;
        }
        if self.deleted_at.is_some() {
            return Some(StoredUser::Deleted(Tombstone { user_id, version }));
        }
        Some(StoredUser::Living(Notification {
            user_id,
            name: self.name?,
            email: self.email?,
            updated_at: DateTime::from_timestamp_millis(self.updated_at?.timestamp_millis())?,
            version,
        }))
    }
}

fn number_of_user(document: &RawDocument, field: &str) -> Option<i64> {
    let numbers = 1..=UserState::MAX_NUMBER;
    mongo::whole_number(document, field).filter(|it| numbers.contains(it))
}
