//! Serving HTTP: what every route gets, and how serving ends.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderName, Request, StatusCode},
    middleware,
    response::{IntoResponse, Response},
    serve::ListenerExt,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::{
    catch_panic::CatchPanicLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    timeout::TimeoutLayer,
    trace::{DefaultOnResponse, TraceLayer},
};

use crate::problem::{self, Problem};

/// The largest request body that is read: far above what a user needs, far below what hurts.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// How long a request may take, its body included.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

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

/// Serves `routes` until `shutdown`, then finishes the requests in hand, for at most `grace`:
/// a client that holds its connection open does not hold up the process.
///
/// # Errors
/// If the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    shutdown: CancellationToken,
    grace: Duration,
) -> anyhow::Result<()> {
    // Answers are small and wait for nothing that follows them.
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY refused");
        }
    });
    let serving = axum::serve(listener, with_layers(routes))
        .with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let grace_over = async {
        shutdown.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        served = serving => served.context("serving HTTP"),
        () = grace_over => {
            tracing::warn!(grace_ms = grace.as_millis(), "cut connections that were still open");
            Ok(())
        }
    }
}

/// From the inside out: body limit, deadline, panics, our error shape, log span, request id.
fn with_layers(routes: Router) -> Router {
    let log_requests = TraceLayer::new_for_http()
        .make_span_with(request_span)
        .on_response(DefaultOnResponse::new().level(tracing::Level::DEBUG));
    let deadline =
        TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_DEADLINE);
    routes
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(deadline)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::map_response(problem::from_plain_error))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(log_requests)
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
}

fn request_span<B>(request: &Request<B>) -> tracing::Span {
    let id = request.headers().get(REQUEST_ID);
    tracing::info_span!(
        "request",
        method = %request.method(),
        path = request.uri().path(),
        id = id.and_then(|id| id.to_str().ok()),
    )
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the layer hands the panic over"
)]
fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let message = (panic.downcast_ref::<String>().map(String::as_str))
        .or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(message, "a handler panicked");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR).into_response()
}
