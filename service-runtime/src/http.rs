//! Serving HTTP: what every route gets, and how serving ends.

mod access;
mod client;
mod client_limit;
mod concurrency;
mod connection_settings;
mod cors;
mod cross_site;
mod errors;
mod feed;
mod headers;
mod host;
mod layers;
mod limits;
mod measure;
mod refused_body;
mod server;
mod server_span;
mod settings;
mod trace_headers;
mod unread;
mod write_deadline;

use std::{
    future::{pending, ready},
    net::SocketAddr,
    time::Duration,
};

use anyhow::Context;
use axum::{Router, body::Body, http::HeaderName};
use futures::StreamExt;
use serde_json::Value;
use tokio::{net::TcpListener, time};
use tokio_util::sync::CancellationToken;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;

pub(crate) use self::{access::bearer, host::is_for_loopback};
pub use self::{
    client::ClientAddress,
    client_limit::{ClientPermit, LimitReached, PerClientLimit},
    concurrency::RequestSlot,
    connection_settings::ConnectionSettings,
    feed::Feed,
    refused_body::discard,
    settings::HttpSettings,
    trace_headers::TraceHeaders,
};
use self::{connection_settings::HEALTH_CONNECTIONS, server::Server};
use crate::{
    metrics,
    openapi::Api,
    problem::{Kind, Problem},
};

/// The largest body of a request for one thing: far above what a user needs, far below what hurts.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// How long a body of at most that size may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(5);
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What a service serves to its clients, and how it describes it.
pub struct Routes<S = ()> {
    /// Answered within the request deadline.
    pub bounded: OpenApiRouter<S>,
    /// Those whose body or answer may take as long as it likes. They do not count as concurrent
    /// requests, so each must have limits of its own, such as a [`PerClientLimit`].
    pub streaming: OpenApiRouter<S>,
    /// Pages without data: no token is needed.
    pub public: OpenApiRouter<S>,
    /// Asked by whoever runs the service: neither limits nor tokens stand before them.
    pub health: OpenApiRouter<S>,
}

impl<S> std::fmt::Debug for Routes<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Routes").finish_non_exhaustive()
    }
}

impl<S: Clone + Send + Sync + 'static> Default for Routes<S> {
    fn default() -> Self {
        Self {
            bounded: OpenApiRouter::default(),
            streaming: OpenApiRouter::default(),
            public: OpenApiRouter::default(),
            health: OpenApiRouter::default(),
        }
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    #[must_use]
    pub fn with_state<S2>(self, state: S) -> Routes<S2> {
        Routes {
            bounded: self.bounded.with_state(state.clone()),
            streaming: self.streaming.with_state(state.clone()),
            public: self.public.with_state(state.clone()),
            health: self.health.with_state(state),
        }
    }

    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            bounded: self.bounded.merge(other.bounded),
            streaming: self.streaming.merge(other.streaming),
            public: self.public.merge(other.public),
            health: self.health.merge(other.health),
        }
    }

    /// What the handlers say of themselves.
    fn openapi(&self) -> OpenApi {
        let parts = [&self.bounded, &self.streaming, &self.public, &self.health];
        let documents = parts.map(|router| router.get_openapi().clone());
        let common = access::router::<S>(None).into_openapi();
        (documents.into_iter().chain([common])).fold(OpenApi::default(), OpenApi::merge_from)
    }

    /// The description of the API ([`Api::document`]).
    #[must_use]
    pub fn document(&self, api: &Api) -> Value {
        api.document(self.openapi())
    }
}

/// Takes hold of the address, so that a taken port is an error before anything else starts.
///
/// # Errors
/// If the address is in use or not ours.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("listening on {address}"))?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    Ok(listener)
}

/// Serves the `routes` of `api` and their description until `shutdown`, then finishes the requests in hand, for
/// at most `grace`: a client that holds its connection open does not hold up the process.
///
/// # Errors
/// If the settings are not valid.
pub async fn serve(
    listener: TcpListener,
    routes: Routes,
    api: &Api,
    settings: HttpSettings,
    shutdown: CancellationToken,
    grace: Duration,
) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    settings.announce(address);
    let layered = layers::wrap(routes, api, &settings, address)?;
    let server = Server::new(layered.api, layered.health_only, &settings, shutdown)?;
    run(server, listener, grace, layered.maintenance).await;
    Ok(())
}

/// Serves these routes alone, for a process without an API.
///
/// # Errors
/// If so many connections don't fit into the limit of open files.
pub(crate) async fn serve_alone(
    listener: TcpListener,
    routes: Router,
    shutdown: CancellationToken,
    grace: Duration,
) -> anyhow::Result<()> {
    let settings = HttpSettings {
        connections: ConnectionSettings {
            max_connections: Some(HEALTH_CONNECTIONS as u64),
            max_connections_per_peer: Some(HEALTH_CONNECTIONS as u64),
            ..ConnectionSettings::default()
        },
        ..HttpSettings::default()
    };
    let routes = layers::common(routes, &settings, None)?;
    let server = Server::new(routes.clone(), routes, &settings, shutdown)?;
    run(server, listener, grace, ready(())).await;
    Ok(())
}

async fn run(
    server: Server,
    listener: TcpListener,
    grace: Duration,
    maintenance: impl Future<Output = ()>,
) {
    let maintenance = async {
        tokio::join!(maintenance, metrics::maintain());
        pending::<()>().await;
    };
    tokio::select! {
        () = maintenance => unreachable!("it has no end"),
        () = server.run(listener, grace) => {}
    }
}

/// Reads a request's body of at most `limit` bytes.
///
/// # Errors
/// 413 if it is larger, 400 if it ends early, 408 if it takes longer than five seconds.
pub async fn read_body(body: Body, limit: usize) -> Result<Vec<u8>, Problem> {
    let reading = time::timeout(BODY_DEADLINE, read_to_end(body, limit)).await;
    reading.unwrap_or_else(|_| {
        let seconds = BODY_DEADLINE.as_secs();
        Err(Problem::new(Kind::BODY_TOO_SLOW)
            .detail(format!("the body did not arrive within {seconds} s")))
    })
}

async fn read_to_end(body: Body, limit: usize) -> Result<Vec<u8>, Problem> {
    let mut kept = Vec::new();
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| {
            Problem::new(Kind::MALFORMED_BODY).detail("the body could not be read whole")
        })?;
        if kept.len() + chunk.len() > limit {
            return Err(Problem::new(Kind::BODY_TOO_LARGE)
                .detail(format!("the body must have at most {limit} bytes")));
        }
        kept.extend_from_slice(&chunk);
    }
    Ok(kept)
}
