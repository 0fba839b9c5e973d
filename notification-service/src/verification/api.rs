//! `GET /verification`: what is known of the copy's agreement with the users.

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use service_runtime::problem::{Kind, Problem};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Store, WORK,
    ranges::EqualRange,
    state::{self, Pass, PassError},
};
use crate::{mongo::Failure, projection::Projection};

/// Where what is shown comes from.
#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) projection: Projection,
    pub(crate) store: Store,
}

/// How the copy compares with the users.
#[derive(Serialize, ToSchema)]
struct Verification {
    /// Whether a process is at a pass right now.
    is_running: bool,
    /// The pass that has not ended; it is continued if its process ended.
    #[schema(nullable)]
    pass: Option<Pass>,
    /// The last pass that compared all users.
    #[schema(nullable)]
    last_pass: Option<Pass>,
    /// Why the last attempt ended early; null if it did not.
    #[schema(nullable)]
    last_error: Option<PassError>,
    /// Until when which users are known to be equal, in the order of their ids. Neighbours are
    /// joined if there are many. What was never found equal is left out.
    #[schema(max_items = 256)]
    equal: Vec<EqualRange>,
}

pub(crate) fn router() -> OpenApiRouter<Shown> {
    OpenApiRouter::new().routes(routes!(verification))
}

/// Show until when the copy is known to be equal to the users
///
/// All processes of the service tell the same. Without `--verify-users` nothing is verified in the
/// background.
#[utoipa::path(
    get, path = "/verification", tag = "projection",
    responses((status = 200, description = "What is known", body = Verification), (status = 503))
)]
async fn verification(State(shown): State<Shown>) -> Response {
    match shown.read().await {
        Ok(verification) => Json(verification).into_response(),
        Err(failure) => {
            tracing::warn!(error = %failure, "the state of the verification can't be read");
            Problem::new(Kind::UNAVAILABLE)
                .detail("the state of the verification can't be read at the moment")
                .retry_after(1)
                .into_response()
        }
    }
}

impl Shown {
    async fn read(&self) -> Result<Verification, Failure> {
        let is_running = self.projection.is_leased(WORK).await?;
        let state::State {
            pass,
            last_pass,
            last_error,
            ranges,
            ..
        } = self.store.load().await?;
        Ok(Verification {
            is_running,
            pass,
            last_pass,
            last_error,
            equal: ranges.as_slice().to_vec(),
        })
    }
}
