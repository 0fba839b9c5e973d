//! Creating a user under an idempotency key.

use postgres_pool::{Failure, Pool, retry_conflicts};
use serde::{Deserialize, Serialize};

use super::store::{self, NewUser, StoreError, User};
use crate::idempotency::{Hasher, Key, KeyError, Once};

/// What is kept under the key. A faulty request leaves nothing, since nothing came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Created(User),
    EmailTaken,
}

/// An outcome, and whether an earlier request brought it about.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) outcome: Outcome,
    pub(super) is_replayed: bool,
}

/// Why there is no outcome.
#[derive(Debug, thiserror::Error)]
pub(super) enum OnceError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OnceError {
    fn is_conflict(&self) -> bool {
        match self {
            Self::Store(error) => error.is_conflict(),
            Self::Key(KeyError::Database(error)) => Failure::from(error) == Failure::Conflict,
            Self::Key(_) => false,
        }
    }
}

impl From<sqlx::Error> for OnceError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

pub(super) async fn create(pool: &Pool, key: &Key, user: &NewUser) -> Result<Done, OnceError> {
    retry_conflicts(|| try_create(pool, key, user), OnceError::is_conflict).await
}

/// One transaction for the user, the event and the key. It has no share in the statements of
/// others: their fate would be that of the key.
async fn try_create(pool: &Pool, key: &Key, user: &NewUser) -> Result<Done, OnceError> {
    let mut hasher = Hasher::new(b"POST /users");
    hasher.add(user.draft.name.as_str().as_bytes());
    hasher.add(user.draft.email.as_str().as_bytes());
    let fingerprint = hasher.finish();
    let once = Once { key, part: 0 };
    let mut transaction = pool.begin().await?;
    if let Some(earlier) = once.begin(&mut transaction).await? {
        return Ok(Done {
            outcome: earlier.outcome(&fingerprint)?,
            is_replayed: true,
        });
    }
    let mut answers = store::create(&mut transaction, &[user]).await?;
    let outcome = match answers.remove(0) {
        Ok(user) => Outcome::Created(user),
        Err(StoreError::EmailTaken) => Outcome::EmailTaken,
        Err(error) => return Err(error.into()),
    };
    once.finish(&mut transaction, &fingerprint, &outcome)
        .await?;
    transaction.commit().await?;
    Ok(Done {
        outcome,
        is_replayed: false,
    })
}
