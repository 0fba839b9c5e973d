//! What clients are told of what went wrong.

use service_runtime::problem::{FieldError, Kind, Problem};

use super::{once::OnceError, store::StoreError};
use crate::idempotency::KeyError;

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::EmailTaken => {
                let taken = FieldError::in_body("/email", "belongs to another user");
                Problem::new(Kind::EMAIL_TAKEN)
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

impl From<OnceError> for Problem {
    fn from(error: OnceError) -> Self {
        match error {
            OnceError::Store(error) => error.into(),
            OnceError::Key(KeyError::Database(error)) => StoreError::from(error).into(),
            OnceError::Key(KeyError::InProgress) => Problem::new(Kind::REQUEST_IN_PROGRESS)
                .detail("a request under this Idempotency-Key is in progress")
                .retry_after(1),
            OnceError::Key(KeyError::UsedForOther) => Problem::new(Kind::KEY_REUSED)
                .detail("this Idempotency-Key was used for another request"),
        }
    }
}
