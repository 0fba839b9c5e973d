//! `GET /users/digests`: what a copy is compared with.

use std::sync::Arc;

use axum::{Json, extract::State};
use service_runtime::{
    digests::{DigestParameters, DigestQuery, Digests, DigestsBuilder, MAX_RANGES},
    problem::Problem,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    state::Users,
    store::{StoreError, digests::range_sums},
};

pub(super) fn router() -> OpenApiRouter<Arc<Users>> {
    OpenApiRouter::new().routes(routes!(digests))
}

/// Digests of ranges of users, to compare a copy with
///
/// A copy that gives the same digest for a range has the same users with the same versions and
/// content. One answer covers at most 65,536 users and 1,024 ranges; `through` says how far it goes.
#[utoipa::path(
    get, path = "/users/digests", tag = "users",
    params(DigestParameters),
    responses((status = 200, description = "The digests", body = Digests))
)]
async fn digests(
    State(users): State<Arc<Users>>,
    query: DigestQuery,
) -> Result<Json<Digests>, Problem> {
    let (ids, size) = ((query.first, query.last), query.size);
    // One more than fits shows that there are more.
    let max_ranges = MAX_RANGES as i64 + 1;
    let sums = range_sums(&users.reads, ids, size, query.limit(), max_ranges).await;
    let (read_at, ranges) = sums.map_err(StoreError::from)?;
    let mut digests = DigestsBuilder::new(query);
    for range in ranges {
        digests.add_range(range.users, range.sum, range.last_user_id);
    }
    let is_all = !digests.is_full();
    Ok(Json(digests.finish(read_at, is_all)))
}
