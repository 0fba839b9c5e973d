//! Serving HTTP: what every route gets, and how serving ends.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use axum::{
    Router,
    body::Body,
    http::{HeaderName, Request, StatusCode},
    middleware,
    response::{IntoResponse, Response},
    serve::ListenerExt,
};
use futures::StreamExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::{
    catch_panic::CatchPanicLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    timeout::TimeoutLayer,
    trace::{DefaultOnFailure, DefaultOnResponse, TraceLayer},
};

use crate::problem::{self, Problem};

/// The largest body of a request for one thing: far above what a user needs, far below what hurts.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// How much of a body that is too large is read to the end.
const MAX_DISCARDED_BYTES: usize = 16 * 1024 * 1024;
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

/// Reads a request's body of at most `limit` bytes.
///
/// What is beyond the limit is read as well, within reason, and thrown away: a client that is
/// still sending would else see its connection break instead of the answer.
///
/// # Errors
/// 413 if it is larger, 400 if it ends early.
pub async fn read_body(body: Body, limit: usize) -> Result<Vec<u8>, Problem> {
    let mut kept = Vec::new();
    let mut length = 0;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| {
            Problem::new(StatusCode::BAD_REQUEST).detail("the body could not be read whole")
        })?;
        length += chunk.len();
        if length <= limit {
            kept.extend_from_slice(&chunk);
        } else if length > MAX_DISCARDED_BYTES {
            break;
        }
    }
    if length > limit {
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE)
            .detail(format!("the body must have at most {limit} bytes")));
    }
    Ok(kept)
}

/// From the inside out: deadline, panics, our error shape, log span, request id.
fn with_layers(routes: Router) -> Router {
    let log_requests = TraceLayer::new_for_http()
        .make_span_with(request_span)
        .on_response(DefaultOnResponse::new().level(tracing::Level::DEBUG))
        // Whoever answers with a failure logs its cause.
        .on_failure(DefaultOnFailure::new().level(tracing::Level::DEBUG));
    let deadline =
        TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_DEADLINE);
    routes
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
