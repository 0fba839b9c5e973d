//! Whether a process runs (`/livez`) and can do its work now (`/readyz`).

#[cfg(feature = "http")]
mod endpoints;
#[cfg(feature = "http")]
mod readiness;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, anyhow, ensure};
use futures::{FutureExt, future::BoxFuture};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

#[cfg(feature = "http")]
pub use self::endpoints::router;
#[cfg(feature = "http")]
pub(crate) use self::{endpoints::routes, readiness::Readiness};

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

    /// # Errors
    /// If it fails, or takes too long.
    pub async fn run(&self) -> anyhow::Result<()> {
        let outcome = tokio::time::timeout(CHECK_DEADLINE, (self.probe)()).await;
        outcome.unwrap_or_else(|_| Err(anyhow!("no answer within {CHECK_DEADLINE:?}")))
    }
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
