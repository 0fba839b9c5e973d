//! `/livez`: the process runs. `/readyz`: it can do its work now.

mod readiness;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow, ensure};
use axum::{
    Json,
    extract::State,
    http::Uri,
    response::{IntoResponse, Response},
};
use futures::{FutureExt, future::BoxFuture};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use url::form_urlencoded;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::readiness::Readiness;
use crate::problem::{Kind, Problem};

/// How long a check may take before it counts as failed: less than probes usually wait.
const CHECK_DEADLINE: Duration = Duration::from_millis(800);
/// How long [`probe`] waits.
const PROBE_DEADLINE: Duration = Duration::from_secs(2);

/// Something without which the process can't do its work.
pub struct Check {
    name: &'static str,
    probe: Box<dyn Fn() -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync>,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Check").field("name", &self.name).finish()
    }
}

impl Check {
    /// `probe` runs at most once a second, for at most 800 ms. Its error goes to the log; clients
    /// see only that it failed.
    pub fn new<F: Future<Output = anyhow::Result<()>> + Send + 'static>(
        name: &'static str,
        probe: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            probe: Box::new(move || probe().boxed()),
        }
    }

    async fn run(&self) -> anyhow::Result<()> {
        let outcome = tokio::time::timeout(CHECK_DEADLINE, (self.probe)()).await;
        outcome.unwrap_or_else(|_| Err(anyhow!("no answer within {CHECK_DEADLINE:?}")))
    }
}

/// `/livez` and `/readyz`. Checks of one name pass together or not at all.
#[must_use]
pub fn router<S: Clone + Send + Sync + 'static>(checks: Vec<Check>) -> OpenApiRouter<S> {
    OpenApiRouter::new()
        .routes(routes!(livez))
        .routes(routes!(readyz))
        .with_state(Arc::new(Readiness::new(checks)))
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
            that are shown but do not decide, such as `relay` where requests are to be served while \
            events wait")),
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

/// Asks `/readyz` of a service on this host: the health check of an image without `curl`.
///
/// # Errors
/// If nobody answers at `listen_address` within two seconds, or the answer is not 200.
pub async fn probe(listen_address: SocketAddr) -> anyhow::Result<()> {
    let address = reachable(listen_address);
    let status_line = tokio::time::timeout(PROBE_DEADLINE, async {
        let mut connection = TcpStream::connect(address).await?;
        connection
            .write_all(b"GET /readyz HTTP/1.0\r\nhost: localhost\r\n\r\n")
            .await?;
        BufReader::new(connection).lines().next_line().await
    });
    let status_line = status_line
        .await
        .with_context(|| format!("no answer from {address} in time"))?
        .with_context(|| format!("asking {address}"))?
        .unwrap_or_default();
    ensure!(status_line.contains(" 200 "), "not ready: {status_line}");
    Ok(())
}

/// Who listens on all addresses is asked at the loopback address of the same family.
fn reachable(listen_address: SocketAddr) -> SocketAddr {
    let ip = match listen_address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen_address.port())
}
