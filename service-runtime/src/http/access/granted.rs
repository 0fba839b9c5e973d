//! `/access`: what a token may do, for pages that offer only that.

use std::sync::Arc;

use axum::{Json, extract::State, http::HeaderMap};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Access, bearer,
    tokens::{Scope, Verdict},
};

/// The scopes of a token.
#[derive(Serialize, ToSchema)]
struct Granted {
    read: bool,
    write: bool,
    repair: bool,
}

/// `access` is `None` if no tokens are set.
pub(in crate::http) fn router<S: Clone + Send + Sync + 'static>(
    access: Option<Arc<Access>>,
) -> OpenApiRouter<S> {
    OpenApiRouter::new()
        .routes(routes!(granted))
        .with_state(access)
}

/// What the token of this request may do
///
/// Everything, if the service has no tokens set.
#[utoipa::path(
    get, path = "/access", tag = "access",
    responses((status = 200, description = "The scopes of the token", body = Granted,
               example = json!({"read": true, "write": true, "repair": false})))
)]
async fn granted(State(access): State<Option<Arc<Access>>>, headers: HeaderMap) -> Json<Granted> {
    let may = |scope| {
        let Some(access) = &access else {
            return true;
        };
        let verdict = bearer(&headers).map(|token| access.judge(token, scope));
        verdict == Some(Verdict::Granted)
    };
    Json(Granted {
        read: may(Scope::Read),
        write: may(Scope::Write),
        repair: may(Scope::Repair),
    })
}
