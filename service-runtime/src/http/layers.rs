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
use tower::ServiceBuilder;
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
    refused_body,
    server_span::ServerSpanLayer,
    unread,
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
    let mut api = (bounded.merge(routes.streaming))
        // Ours, so that unknown paths count and need a token as well.
        .fallback(async || StatusCode::NOT_FOUND);
    if let Some(access) = access {
        maintenance.push(Arc::clone(&access).maintain().boxed());
        api = api.layer(middleware::from_fn_with_state(access, access::check));
    }
    let (rate_limit, forget_clients) = settings.rate_limit.map(limits::rate).unzip();
    maintenance.extend(forget_clients.map(FutureExt::boxed));
    let hosts = host::allowed(settings, listens_on)?;
    let origins = cross_site::allowed(settings);
    // From the outside in, like all stacks of layers.
    let checks = ServiceBuilder::new()
        .layer(middleware::from_fn(refused_body::discard_unread))
        .layer(middleware::from_fn_with_state(
            settings.connections.unread_bytes(),
            unread::bound,
        ))
        // Before the tokens: guessing them is limited too.
        .option_layer(rate_limit)
        .option_layer(origins.map(|it| middleware::from_fn_with_state(it, cross_site::check)))
        .option_layer(hosts.map(|it| middleware::from_fn_with_state(it, host::check)));
    let api = api.merge(routes.public).layer(checks);
    let server_spans = spans::are_on().then(ServerSpanLayer::new);
    let api = common(api, settings, server_spans)?;
    let health = Router::from(routes.health);
    let health_only = health.clone().fallback(connection_limit_reached);
    Ok(Layered {
        api: api.merge(common(health, settings, None)?),
        health_only: common(health_only, settings, None)?,
        maintenance: join_all(maintenance).map(drop).boxed(),
    })
}

/// What every answer goes through.
///
/// One stack: each `Router::layer` more would have every request copy all that is below once more.
pub(super) fn common(
    routes: Router,
    settings: &HttpSettings,
    server_spans: Option<ServerSpanLayer>,
) -> anyhow::Result<Router> {
    let trusted_hops = settings.trusted_hops;
    let log_requests = TraceLayer::new_for_http()
        .make_span_with(request_span)
        .on_response(DefaultOnResponse::new().level(tracing::Level::DEBUG))
        // Whoever answers with a failure logs its cause.
        .on_failure(DefaultOnFailure::new().level(tracing::Level::DEBUG));
    let layers = ServiceBuilder::new()
        // Outside of the logs, which name the trace from their first line on.
        .option_layer(server_spans)
        .layer(MeasureLayer::new())
        .map_request(move |request| client::identify(request, trusted_hops))
        .map_request(headers::drop_odd_request_id)
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
        .layer(log_requests)
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .map_response(headers::secure)
        .map_request(headers::choose_encoding)
        .layer(headers::compression())
        .option_layer(cors::layer(settings)?)
        .layer(middleware::from_fn(errors::explain))
        .layer(CatchPanicLayer::custom(panicked));
    Ok(routes.layer(layers))
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
