//! Connecting to NATS.

use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, ServerAddr};

use crate::{backoff, connection_url::ConnectionUrl};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects, waiting for as long as it takes; after that the client reconnects by itself.
///
/// `name` is what the server's monitor shows for the connection. Has no bound of its own: run it
/// under the shutdown token.
///
/// # Errors
/// If the URL is not one that NATS understands: no waiting would mend that.
pub async fn connect(url: &ConnectionUrl, name: &'static str) -> anyhow::Result<Client> {
    let servers = servers(url)?;
    let client = backoff::wait_for("NATS", || options(name).connect(&servers[..])).await;
    tracing::info!(server = %url, "connected to NATS");
    Ok(client)
}

fn options(name: &'static str) -> ConnectOptions {
    ConnectOptions::new()
        .name(name)
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .reconnect_delay_callback(reconnect_delay)
        .event_callback(move |event| async move { log(&event) })
}

/// From 50 ms doubling to 1 s: a server that is back is not kept waiting.
fn reconnect_delay(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
    let delay = Duration::from_millis(50).saturating_mul(2_u32.saturating_pow(doublings.min(10)));
    delay.min(Duration::from_secs(1))
}

/// One URL or several, separated by commas, as every NATS client takes them.
fn servers(url: &ConnectionUrl) -> anyhow::Result<Vec<ServerAddr>> {
    let parse = |server: &str| {
        // The driver's error repeats the text, which may hold a password.
        (server.trim().parse()).map_err(|_| anyhow::anyhow!("NATS_URL is not a valid NATS URL"))
    };
    url.expose().split(',').map(parse).collect()
}

fn log(event: &Event) {
    match event {
        Event::Connected | Event::Closed => tracing::debug!(%event, "NATS"),
        Event::Disconnected => tracing::warn!("NATS connection lost; reconnecting"),
        other => tracing::warn!(event = %other, "NATS"),
    }
}
