//! Reading the copy.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use mongodb::{
    Collection,
    bson::{self, doc},
    error::ErrorKind,
};
use serde::{Deserialize, Deserializer, Serialize};
use service_runtime::{
    page::Page,
    problem::{FieldError, Problem},
};

use crate::mongo::{self, Failure};

/// How long a read may take; MongoDB ends it itself shortly before.
const READ_DEADLINE: Duration = Duration::from_secs(5);
const MAX_TIME: Duration = Duration::from_secs(4);

/// A user as the copy has it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Notification {
    user_id: i64,
    name: String,
    email: String,
    #[serde(deserialize_with = "from_bson_date")]
    updated_at: DateTime<Utc>,
    version: i64,
}

pub(crate) fn router(copy: Collection<Notification>) -> Router {
    Router::new()
        .route("/notifications", get(list))
        .route("/notifications/user/{id}", get(get_one))
        .with_state(copy)
}

async fn list(
    State(copy): State<Collection<Notification>>,
    page: Page,
) -> Result<Response, ReadError> {
    let (after, limit) = (page.after, page.limit);
    let notifications: Vec<_> = mongo::call(READ_DEADLINE, async move {
        let cursor = copy
            .find(doc! { "_id": { "$gt": after }, "deleted_at": { "$exists": false } })
            .sort(doc! { "_id": 1 })
            .limit(limit.into())
            .batch_size(limit.into())
            .max_time(MAX_TIME)
            .await?;
        cursor.try_collect().await
    })
    .await?;
    Ok(page.respond(&notifications, |notification| notification.user_id))
}

async fn get_one(
    State(copy): State<Collection<Notification>>,
    Path(id): Path<String>,
) -> Result<Json<Notification>, ReadError> {
    let id = parse_id(&id).ok_or(ReadError::BadId)?;
    let notification = mongo::call(READ_DEADLINE, async move {
        copy.find_one(doc! { "_id": id, "deleted_at": { "$exists": false } })
            .max_time(MAX_TIME)
            .await
    });
    notification.await?.map(Json).ok_or(ReadError::Unknown)
}

fn parse_id(text: &str) -> Option<i64> {
    text.parse().ok().filter(|id| *id > 0)
}

#[derive(Debug)]
enum ReadError {
    BadId,
    Unknown,
    Failed(Failure),
}

impl From<Failure> for ReadError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl IntoResponse for ReadError {
    fn into_response(self) -> Response {
        let problem = match self {
            Self::BadId => Problem::new(StatusCode::BAD_REQUEST)
                .detail("the path is not valid")
                .errors(vec![FieldError::in_parameter(
                    "id",
                    "must be a positive whole number",
                )]),
            Self::Unknown => Problem::new(StatusCode::NOT_FOUND).detail("no such user"),
            Self::Failed(failure) => failed(&failure),
        };
        problem.into_response()
    }
}

fn failed(failure: &Failure) -> Problem {
    if is_foreign_document(failure) {
        tracing::error!(error = %failure, "the copy holds a document of another shape");
        return Problem::new(StatusCode::INTERNAL_SERVER_ERROR);
    }
    tracing::warn!(error = %failure, "the copy can't be read");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE)
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

fn from_bson_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
    let date = bson::DateTime::deserialize(deserializer)?;
    DateTime::from_timestamp_millis(date.timestamp_millis())
        .ok_or_else(|| serde::de::Error::custom("a date beyond the calendar"))
}
