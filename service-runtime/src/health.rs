//! `/livez`: the process runs. `/readyz`: it can do its work now.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, ensure};
use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use futures::{FutureExt, future::BoxFuture};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::problem::{Kind, Problem};

/// How long a check may take before it counts as failed.
const CHECK_DEADLINE: Duration = Duration::from_secs(2);

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
    /// `probe` is asked on every `/readyz`, for at most two seconds. Its error goes to the log;
    /// clients see only that it failed.
    pub fn new<F: Future<Output = anyhow::Result<()>> + Send + 'static>(
        name: &'static str,
        probe: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            probe: Box::new(move || probe().boxed()),
        }
    }

    async fn passes(&self) -> bool {
        let outcome = tokio::time::timeout(CHECK_DEADLINE, (self.probe)()).await;
        let error = match outcome {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::debug!(check = self.name, error, "not ready");
        false
    }
}

pub fn router(checks: Vec<Check>) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(Arc::new(checks))
}

async fn livez() -> Response {
    Json(json!({"status": "alive"})).into_response()
}

async fn readyz(State(checks): State<Arc<Vec<Check>>>) -> Response {
    let results = futures::future::join_all(checks.iter().map(async |check| {
        let state = if check.passes().await { "ok" } else { "failed" };
        (check.name, state)
    }));
    let checks: BTreeMap<_, _> = results.await.into_iter().collect();
    if checks.values().all(|state| *state == "ok") {
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
/// If nobody answers at the port of `listen_address` within two seconds, or the answer is not 200.
pub async fn probe(listen_address: SocketAddr) -> anyhow::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, listen_address.port()));
    let status_line = tokio::time::timeout(CHECK_DEADLINE, async {
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
