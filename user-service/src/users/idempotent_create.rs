//! Creating a user under an idempotency key.

use postgres_pool::{Pool, retry_conflicts};
use serde::{Deserialize, Serialize};

use super::{
    error::KeyedWriteError,
    store::{self, NewUser, StoreError, User},
};
use crate::idempotency::{Hasher, Key, Operation};

/// What is stored under the key. A faulty request stores nothing, since it changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CreateOutcome {
    Created(User),
    EmailTaken,
}

/// An outcome, and whether an earlier request had it.
#[derive(Debug)]
pub(super) struct CreateAnswer {
    pub(super) outcome: CreateOutcome,
    pub(super) is_replayed: bool,
}

pub(super) async fn create(
    pool: &Pool,
    key: &Key,
    user: &NewUser,
) -> Result<CreateAnswer, KeyedWriteError> {
    retry_conflicts(|| try_create(pool, key, user), KeyedWriteError::is_conflict).await
}

/// One transaction for the user, the event and the key. It has no share in the statements of
/// others: their fate would be that of the key.
async fn try_create(
    pool: &Pool,
    key: &Key,
    user: &NewUser,
) -> Result<CreateAnswer, KeyedWriteError> {
    let mut hasher = Hasher::new(b"POST /users");
    hasher.add(user.draft.name.as_str().as_bytes());
    hasher.add(user.draft.email.as_str().as_bytes());
    let fingerprint = hasher.finish();
    let operation = Operation { key, part: 0 };
    let mut transaction = pool.begin().await?;
    if let Some(stored) = operation.begin(&mut transaction).await? {
        return Ok(CreateAnswer {
            outcome: stored.outcome(&fingerprint)?,
            is_replayed: true,
        });
    }
    let mut answers = store::create(&mut transaction, &[user]).await?;
    let outcome = match answers.remove(0) {
        Ok(user) => CreateOutcome::Created(user),
        Err(StoreError::EmailTaken) => CreateOutcome::EmailTaken,
        Err(error) => return Err(error.into()),
    };
    operation
        .finish(&mut transaction, &fingerprint, &outcome)
        .await?;
    transaction.commit().await?;
    Ok(CreateAnswer {
        outcome,
        is_replayed: false,
    })
}
