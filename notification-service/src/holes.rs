//! `/projection/holes`: which events the copy misses, and saying that they are made up for.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use event_consumer::holes::Hole;
use serde::Serialize;
use service_runtime::{
    etag::{self, IfMatch},
    problem::{Kind, Problem},
};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{mongo::Failure, projection::MongoPositionStore};

/// Events that left the stream before they were read.
#[derive(Serialize, ToSchema)]
#[schema(as = Hole)]
struct Summary {
    /// The first sequence on the stream.
    first: i64,
    /// The last one.
    last: i64,
    found_at: DateTime<Utc>,
}

pub(crate) fn router() -> OpenApiRouter<MongoPositionStore> {
    OpenApiRouter::new().routes(routes!(list, clear))
}

/// List the events that left the stream before they were read, and are not made up for
///
/// They are ranges of sequences. While there are any, the service is not ready.
#[utoipa::path(
    get, path = "/projection/holes", tag = "projection",
    responses((status = 200, description = "All of them", body = Vec<Summary>, headers(("ETag"))),
              (status = 503))
)]
async fn list(State(store): State<MongoPositionStore>) -> Response {
    match store.position().await {
        Ok(position) => {
            let holes: Vec<_> = position.holes.iter().map(Summary::from).collect();
            ([(header::ETAG, etag::tag(position.found))], Json(holes)).into_response()
        }
        Err(failure) => unavailable(&failure),
    }
}

/// Forget the holes, because the copy was compared with the users or made anew
///
/// `notification-service verify` does so if it finds agreement. With `If-Match` only if no further
/// ones were found.
#[utoipa::path(
    delete, path = "/projection/holes", tag = "projection",
    params(("If-Match" = Option<String>, Header)),
    responses((status = 204, description = "Forgotten"), (status = 412), (status = 503)),
    security((), ("token" = ["repair"])),
)]
async fn clear(State(store): State<MongoPositionStore>, headers: HeaderMap) -> Response {
    let cleared = match IfMatch::from_headers(&headers) {
        IfMatch::Absent | IfMatch::Any => store.clear(None).await,
        IfMatch::OneOf(found) => store.clear(Some(&found)).await,
    };
    match cleared {
        Ok(true) => StatusCode::NO_CONTENT.into_response(),
        Ok(false) => Problem::new(Kind::VERSION_MISMATCH)
            .detail("more events were found missing")
            .into_response(),
        Err(failure) => unavailable(&failure),
    }
}

fn unavailable(failure: &Failure) -> Response {
    tracing::warn!(error = %failure, "the holes can't be read or cleared");
    Problem::new(Kind::UNAVAILABLE)
        .detail("what the copy misses can't be read or changed at the moment")
        .retry_after(1)
        .into_response()
}

impl From<&Hole> for Summary {
    fn from(hole: &Hole) -> Self {
        Self {
            first: hole.range.first,
            last: hole.range.last,
            found_at: hole.found_at,
        }
    }
}
