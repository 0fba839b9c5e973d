//! Why a read gives nothing.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use service_runtime::{
    etag,
    http::LimitReached,
    problem::{FieldError, Kind, Problem},
};

use crate::{mongo::Failure, problems, projection::Damaged};

#[derive(Debug)]
pub(super) enum ReadError {
    Invalid(FieldError),
    Unknown,
    /// With the version of the deletion.
    Deleted(i64),
    /// The copy does not have this version yet.
    NotYet(i64),
    TooManyWait(LimitReached),
    Damaged(Damaged),
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
                let problem = Problem::new(problems::DELETED).detail("the user was deleted");
                return (tag, problem).into_response();
            }
            Self::NotYet(version) => Problem::new(problems::NOT_YET)
                .detail(format!("version {version} of the user is not here yet"))
                .retry_after(1),
            Self::TooManyWait(reached) => Problem::from(reached),
            Self::Damaged(damaged) => return respond_damaged(damaged),
            Self::Failed(failure) => failed(&failure),
        };
        problem.into_response()
    }
}

/// With the version, if that can be read: a repair has to exceed it.
fn respond_damaged(damaged: Damaged) -> Response {
    let user_id = damaged.user_id;
    tracing::error!(
        user_id,
        "a document of the copy is damaged: run verify --repair"
    );
    let tag = damaged.version.map(|it| [(header::ETAG, etag::tag(it))]);
    (tag, Problem::new(problems::DAMAGED)).into_response()
}

fn failed(failure: &Failure) -> Problem {
    tracing::warn!(error = %failure, "the copy can't be read");
    Problem::new(Kind::UNAVAILABLE)
        .detail("the notifications can't be read at the moment")
        .retry_after(1)
}
