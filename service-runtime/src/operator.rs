//! What whoever runs a process asks it: its health and its metrics.

mod scraping;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    health::{self, Check, Readiness},
    http,
    metrics::MetricsSettings,
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
    let metrics = scraping::router(Arc::clone(&readiness), settings, listens_on)?;
    Ok(health::routes(readiness).merge(metrics))
}

/// The same, for a description of the API.
#[must_use]
pub fn description<S: Clone + Send + Sync + 'static>() -> OpenApiRouter<S> {
    health::router(Vec::new()).merge(scraping::description())
}

/// Serves them alone, for a process without an API, until `shutdown`; then finishes the requests in hand, for at most `grace`.
///
/// # Errors
/// If the settings are not valid, or the connections don't fit into the limit of open files.
pub async fn serve(
    listener: TcpListener,
    checks: Vec<Check>,
    settings: &MetricsSettings,
    shutdown: CancellationToken,
    grace: Duration,
) -> anyhow::Result<()> {
    let router = router(checks, settings, listener.local_addr()?)?;
    http::serve_alone(listener, router.into(), shutdown, grace).await
}
