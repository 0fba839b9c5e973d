//! Why a write was not made, and what clients are told of it.

use postgres_pool::Failure;
use service_runtime::problem::{FieldError, Kind, Problem};

use super::store::StoreError;
use crate::{idempotency::KeyError, problems};

/// Why a write under an idempotency key was not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyedWriteError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl KeyedWriteError {
    /// Whether it was rolled back and may succeed if it is run again at once.
    pub(super) fn is_conflict(&self) -> bool {
        match self {
            Self::Store(error) => error.is_conflict(),
            Self::Key(KeyError::Database(error)) => Failure::from(error) == Failure::Conflict,
            Self::Key(KeyError::InProgress | KeyError::Reused) => false,
        }
    }
}

impl From<sqlx::Error> for KeyedWriteError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::EmailTaken => {
                let taken = FieldError::in_body("/email", "belongs to another user");
                Problem::new(problems::EMAIL_TAKEN)
                    .detail("the e-mail address is taken")
                    .errors(vec![taken])
            }
            StoreError::NoSuchUser(id) => {
                Problem::new(Kind::NOT_FOUND).detail(format!("there is no user {id}"))
            }
            StoreError::OtherVersion(current) => Problem::new(Kind::VERSION_MISMATCH)
                .detail(format!("the user has version {current} by now")),
            StoreError::Unavailable(source) => {
                tracing::warn!(error = %source, "no answer from Postgres");
                Problem::new(Kind::UNAVAILABLE)
                    .detail("the users can't be reached now")
                    .retry_after(1)
            }
            StoreError::Locked | StoreError::Conflict(_) => Problem::new(Kind::UNAVAILABLE)
                .detail("another change of the same is under way")
                .retry_after(1),
            StoreError::TooLate => Problem::new(Kind::UNAVAILABLE)
                .detail("too many requests are waiting; this one was not carried out")
                .retry_after(1),
            StoreError::Stopping => Problem::new(Kind::UNAVAILABLE)
                .detail("this instance is stopping")
                .retry_after(1),
            StoreError::Refused(source) => {
                tracing::error!(error = %source, "Postgres refused a statement");
                Problem::new(Kind::INTERNAL)
            }
        }
    }
}

impl From<KeyedWriteError> for Problem {
    fn from(error: KeyedWriteError) -> Self {
        match error {
            KeyedWriteError::Store(error) => error.into(),
            KeyedWriteError::Key(KeyError::Database(error)) => StoreError::from(error).into(),
            KeyedWriteError::Key(KeyError::InProgress) => {
                Problem::new(problems::REQUEST_IN_PROGRESS)
                    .detail("a request under this Idempotency-Key is in progress")
                    .retry_after(1)
            }
            KeyedWriteError::Key(KeyError::Reused) => Problem::new(problems::KEY_REUSED)
                .detail("this Idempotency-Key was used for another request"),
        }
    }
}
