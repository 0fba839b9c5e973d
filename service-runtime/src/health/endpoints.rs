//! `/livez` and `/readyz`.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::State,
    http::Uri,
    response::{IntoResponse, Response},
};
use serde_json::json;
use url::form_urlencoded;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{Check, readiness::Readiness};
use crate::problem::{Kind, Problem};

/// `/livez` and `/readyz`. Checks of one name pass together or not at all.
#[must_use]
pub fn router<S: Clone + Send + Sync + 'static>(checks: Vec<Check>) -> OpenApiRouter<S> {
    routes(Arc::new(Readiness::new(checks)))
}

pub(crate) fn routes<S: Clone + Send + Sync + 'static>(
    readiness: Arc<Readiness>,
) -> OpenApiRouter<S> {
    OpenApiRouter::new()
        .routes(routes!(livez))
        .routes(routes!(readyz))
        .with_state(readiness)
}

/// Whether the process runs
#[utoipa::path(
    get, path = "/livez", tag = "health",
    responses((status = 200, description = "The process is alive", body = HashMap<String, String>,
               example = json!({"status": "alive"})))
)]
async fn livez() -> Response {
    Json(json!({"status": "alive"})).into_response()
}

/// Whether the service can do its work now
///
/// The answer is at most one second old.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    params(("exclude" = Option<String>, Query, description = "Names of checks, separated by commas, \
            that are shown but do not decide, such as one of work that may wait while requests are \
            served")),
    responses(
        (status = 200, description = "All checks have passed", body = Object,
         example = json!({"status": "ready", "checks": {"postgres": "ok"}})),
        (status = 503),
    )
)]
async fn readyz(State(readiness): State<Arc<Readiness>>, uri: Uri) -> Response {
    let parameters = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let excluded: Vec<_> = parameters
        .filter(|(name, _)| name == "exclude")
        .map(|(_, names)| names)
        .collect();
    let decides = |name: &str| {
        !excluded
            .iter()
            .any(|names| names.split(',').any(|it| it == name))
    };
    let checks = readiness.checks().await;
    let is_ready = (checks.iter()).all(|(name, passes)| *passes || !decides(name));
    let state = |passes| if passes { "ok" } else { "failed" };
    let checks: BTreeMap<_, _> = (checks.iter())
        .map(|(name, passes)| (*name, state(*passes)))
        .collect();
    if is_ready {
        return Json(json!({"status": "ready", "checks": checks})).into_response();
    }
    Problem::new(Kind::NOT_READY)
        .detail("not ready: see checks")
        .checks(json!(checks))
        .retry_after(1)
        .into_response()
}
