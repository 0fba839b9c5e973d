//! `GET /notifications/digests`: what the users are compared with.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State, http::HeaderMap};
use service_runtime::{
    digests::{DigestParameters, DigestQuery, Digests},
    progress::Progress,
};

use super::{NO_CACHE, Reader, copy::Copy, error::ReadError, pace::Pace};

/// Well below the deadline of a request.
const MAX_TIME: Duration = Duration::from_secs(3);

/// Digests of ranges of users of the copy, to compare them with the user service's
///
/// They are made as `GET /users/digests` makes them. One answer covers at most 65,536 users and 1,024
/// ranges; `through` says how far it goes.
#[utoipa::path(
    get, path = "/notifications/digests", tag = "notifications",
    params(DigestParameters, ("Cache-Control" = Option<String>, Header, description = NO_CACHE)),
    responses((status = 200, description = "The digests", body = Digests,
               headers(("X-Projection-Lag-Ms"))))
)]
pub(super) async fn digests(
    State(reader): State<Arc<Reader>>,
    query: DigestQuery,
    headers: HeaderMap,
) -> Result<Json<Digests>, ReadError> {
    let pace = Pace::unlimited(Progress::new("digests"));
    let copy = Copy::of(reader.copy_for(&headers).clone());
    let digests = copy.digests(query, &pace, MAX_TIME).await?;
    Ok(Json(digests))
}
