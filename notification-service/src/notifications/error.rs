//! Why a read gives nothing.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use mongodb::error::ErrorKind;
use service_runtime::{
    etag,
    http::LimitReached,
    problem::{FieldError, Kind, Problem},
};

use crate::mongo::Failure;

#[derive(Debug)]
pub(super) enum ReadError {
    Invalid(FieldError),
    Unknown,
    /// With the version of the deletion.
    Deleted(i64),
    /// The copy does not have this version yet.
    NotYet(i64),
    TooManyWait(LimitReached),
    Failed(Failure),
}

impl From<Failure> for ReadError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<LimitReached> for ReadError {
    fn from(reached: LimitReached) -> Self {
        Self::TooManyWait(reached)
    }
}

impl From<FieldError> for ReadError {
    fn from(error: FieldError) -> Self {
        Self::Invalid(error)
    }
}

impl ReadError {
    pub(super) fn from_parameter(name: &'static str, detail: &str) -> Self {
        Self::Invalid(FieldError::in_parameter(name, detail))
    }
}

impl IntoResponse for ReadError {
    fn into_response(self) -> Response {
        let problem = match self {
            Self::Invalid(error) => Problem::new(Kind::INVALID_PARAMETER)
                .detail("the path or the query is not valid")
                .errors(vec![error]),
            Self::Unknown => Problem::new(Kind::NOT_FOUND).detail("no such user"),
            Self::Deleted(version) => {
                let tag = [(header::ETAG, etag::tag(version))];
                let problem = Problem::new(Kind::DELETED).detail("the user was deleted");
                return (tag, problem).into_response();
            }
            Self::NotYet(version) => Problem::new(Kind::NOT_YET)
                .detail(format!("version {version} of the user is not here yet"))
                .retry_after(1),
            Self::TooManyWait(reached) => Problem::from(reached),
            Self::Failed(failure) => failed(&failure),
        };
        problem.into_response()
    }
}

fn failed(failure: &Failure) -> Problem {
    if is_foreign_document(failure) {
        tracing::error!(error = %failure, "the copy holds a document of another shape");
        return Problem::new(Kind::INTERNAL);
    }
    tracing::warn!(error = %failure, "the copy can't be read");
    Problem::new(Kind::UNAVAILABLE)
        .detail("the notifications can't be read at the moment")
        .retry_after(1)
}

fn is_foreign_document(failure: &Failure) -> bool {
    let Failure::Driver(error) = failure else {
        return false;
    };
    matches!(
        error.kind.as_ref(),
        ErrorKind::BsonDeserialization(_) | ErrorKind::Bson(_)
    )
}
