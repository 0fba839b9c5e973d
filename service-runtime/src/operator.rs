//! What whoever runs a process asks it: its health and its metrics.

use std::{net::SocketAddr, sync::Arc};

use utoipa_axum::router::OpenApiRouter;

use crate::{
    health::{self, Check, Readiness},
    metrics::{self, MetricsSettings},
};

/// `/livez`, `/readyz` and `/metrics` of a process that listens on this address.
///
/// # Errors
/// If there is no valid token for metrics where the settings say that there is one.
pub fn router<S: Clone + Send + Sync + 'static>(
    checks: Vec<Check>,
    settings: &MetricsSettings,
    listens_on: SocketAddr,
) -> anyhow::Result<OpenApiRouter<S>> {
    let readiness = Arc::new(Readiness::new(checks));
    let metrics = metrics::router(Arc::clone(&readiness), settings, listens_on)?;
    Ok(health::routes(readiness).merge(metrics))
}

/// The same, for a description of the API.
#[must_use]
pub fn description<S: Clone + Send + Sync + 'static>() -> OpenApiRouter<S> {
    health::router(Vec::new()).merge(metrics::description())
}
