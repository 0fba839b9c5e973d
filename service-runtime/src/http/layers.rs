//! What every request goes through.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{Request, StatusCode},
    middleware,
    response::{IntoResponse, Response},
};
use futures::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    timeout::TimeoutLayer,
    trace::{DefaultOnFailure, DefaultOnResponse, TraceLayer},
};

use super::{
    HttpSettings, REQUEST_ID, Routes,
    access::{self, Access},
    client, concurrency, cors, cross_site, errors, headers, host, limits,
    measure::MeasureLayer,
    server_span, unread,
};
use crate::{
    openapi::{self, Api},
    problem::{self, Kind, Problem},
    telemetry::{
        spans,
        trace_context::{TRACEPARENT, Traceparent},
    },
};

/// How long a request may take, its body included.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

pub(super) struct Layered {
    pub(super) api: Router,
    /// For connections above the limit.
    pub(super) health_only: Router,
    /// What has to run meanwhile.
    pub(super) maintenance: BoxFuture<'static, ()>,
}

/// # Errors
/// If the settings are not valid.
pub(super) fn wrap(
    routes: Routes,
    api: &Api,
    settings: &HttpSettings,
    listens_on: SocketAddr,
) -> anyhow::Result<Layered> {
    let mut maintenance: Vec<BoxFuture<'static, ()>> = Vec::new();
    let handlers = routes.openapi();
    let repair_paths = openapi::paths_of_scope_repair(&handlers);
    let access = Access::from_settings(settings, repair_paths)?;
    let deadline =
        TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_DEADLINE);
    let granted = access::router(access.clone());
    let bounded = Router::from(routes.bounded.merge(granted))
        .merge(openapi::router(api.document(handlers)))
        .merge(problem::router(api.problems()))
        .layer(deadline);
    let bounded = concurrency::limit(bounded, settings);
    // From the inside out.
    let mut api = (bounded.merge(routes.streaming))
        // Ours, so that unknown paths count and need a token as well.
        .fallback(async || StatusCode::NOT_FOUND);
    if let Some(access) = access {
        maintenance.push(Arc::clone(&access).maintain().boxed());
        api = api.layer(middleware::from_fn_with_state(access, access::check));
    }
    api = api.merge(routes.public);
    if let Some(hosts) = host::allowed(settings, listens_on)? {
        api = api.layer(middleware::from_fn_with_state(hosts, host::check));
    }
    if let Some(origins) = cross_site::allowed(settings) {
        api = api.layer(middleware::from_fn_with_state(origins, cross_site::check));
    }
    // Before the tokens: guessing them is limited too.
    if let Some(rate) = settings.rate_limit {
        let (limited, forget_clients) = limits::limit_rate(api, rate);
        maintenance.push(forget_clients.boxed());
        api = limited;
    }
    let unread = settings.connections.unread_bytes();
    let api = api.layer(middleware::from_fn_with_state(unread, unread::bound));
    let mut api = common(api, settings)?;
    if spans::are_on() {
        // Outside of the logs, which name the trace from their first line on.
        api = api.layer(middleware::from_fn_with_state(
            server_span::tracer(),
            server_span::make,
        ));
    }
    let health = Router::from(routes.health);
    let health_only = health.clone().fallback(connection_limit_reached);
    Ok(Layered {
        api: api.merge(common(health, settings)?),
        health_only: common(health_only, settings)?,
        maintenance: join_all(maintenance).map(drop).boxed(),
    })
}

/// What every answer goes through, from the inside out.
pub(super) fn common(routes: Router, settings: &HttpSettings) -> anyhow::Result<Router> {
    let mut routes = routes
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(errors::explain));
    if let Some(cors) = cors::layer(settings)? {
        routes = routes.layer(cors);
    }
    let log_requests = TraceLayer::new_for_http()
        .make_span_with(request_span)
        .on_response(DefaultOnResponse::new().level(tracing::Level::DEBUG))
        // Whoever answers with a failure logs its cause.
        .on_failure(DefaultOnFailure::new().level(tracing::Level::DEBUG));
    Ok(routes
        .layer(headers::compression())
        .layer(middleware::map_request(headers::choose_encoding))
        .layer(middleware::map_response(headers::secure))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(log_requests)
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
        .layer(middleware::map_request(headers::drop_odd_request_id))
        .layer(middleware::from_fn_with_state(
            settings.trusted_hops,
            client::identify,
        ))
        .layer(MeasureLayer::new()))
}

async fn connection_limit_reached() -> Problem {
    Problem::new(Kind::OVERLOADED)
        .detail("the limit of connections is reached")
        .retry_after(1)
}

fn request_span<B>(request: &Request<B>) -> tracing::Span {
    let header = |name: &str| request.headers().get(name)?.to_str().ok();
    let traceparent = header(TRACEPARENT).and_then(Traceparent::parse);
    tracing::info_span!(
        "request",
        method = %request.method(),
        path = request.uri().path(),
        id = header(REQUEST_ID.as_str()),
        trace_id = traceparent.map(Traceparent::trace_id),
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
    Problem::new(Kind::INTERNAL).into_response()
}
