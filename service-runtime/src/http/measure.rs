//! What is measured of connections and requests.
//!
//! Labels come from a fixed set, whatever is sent: the route is the pattern that the path has matched,
//! not the path, and methods that HTTP does not define are one.

use std::{
    convert::Infallible,
    slice,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use arc_swap::ArcSwap;
use axum::{
    extract::{MatchedPath, Request},
    http::Method,
    response::Response,
};
use futures::future::BoxFuture;
use tower::{Layer, Service};

use crate::metrics::{Counter, Description, Gauge, Held, Histogram, SECONDS};

const DURATION: Histogram<3> = Histogram::new(
    "http_server_request_duration_seconds",
    ["method", "route", "status"],
    SECONDS,
    "From the head of a request to the head of its answer: an answer that streams counts until it \
     begins. `route` is the pattern of the path, or unmatched; `method` one of HTTP, or other; \
     `status` 499 if the client left first.",
);
const IN_FLIGHT: Gauge<0> = Gauge::new(
    "http_server_requests_in_flight",
    [],
    "Requests whose answer has not begun.",
);
pub(super) const IN_FLIGHT_MAX: Gauge<0> = Gauge::new(
    "http_server_requests_in_flight_max",
    [],
    "The limit of concurrent requests (MAX_CONCURRENT_REQUESTS); those whose answers stream have limits of \
     their own.",
);
pub(super) const CONNECTIONS: Gauge<0> = Gauge::new(
    "http_server_connections",
    [],
    "Open connections, without those above the limit.",
);
pub(super) const CONNECTIONS_MAX: Gauge<0> = Gauge::new(
    "http_server_connections_max",
    [],
    "The limit of connections; above it only health checks and scrapes are answered.",
);
pub(super) const REJECTED: Counter<1> = Counter::new(
    "http_server_rejected_total",
    ["reason"],
    "What was not served, by reason: rate_limit, concurrent_requests, host, no_token, unknown_token, \
     insufficient_scope, or what is limited for each client and in total (connections, \
     request_bodies, unread_bytes, imports and others).",
);

pub(crate) const METRICS: &[Description] = &[
    DURATION.description(),
    IN_FLIGHT.description(),
    IN_FLIGHT_MAX.description(),
    CONNECTIONS.description(),
    CONNECTIONS_MAX.description(),
    REJECTED.description(),
];

/// Of a client that was gone before its answer began.
const CLIENT_GONE: u16 = 499;
const METHODS: [Method; 8] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::HEAD,
    Method::OPTIONS,
    Method::TRACE,
];

/// Measures each request. The router makes a service of its own for each route, which keeps the
/// handles of that route.
#[derive(Debug, Clone)]
pub(super) struct MeasureLayer(metrics::Gauge);

impl MeasureLayer {
    pub(super) fn new() -> Self {
        Self(IN_FLIGHT.with([]))
    }
}

impl<S> Layer<S> for MeasureLayer {
    type Service = Measured<S>;

    fn layer(&self, inner: S) -> Measured<S> {
        Measured {
            inner,
            in_flight: self.0.clone(),
            known: Known::default(),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Measured<S> {
    inner: S,
    in_flight: metrics::Gauge,
    known: Known,
}

impl<S> Service<Request> for Measured<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let mut measuring = Measuring {
            began: Instant::now(),
            method: method(request.method()),
            route: request.extensions().get().cloned(),
            status: CLIENT_GONE,
            known: self.known.clone(),
            _in_flight: Held::new(&self.in_flight),
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            measuring.answered(&response);
            Ok(response)
        })
    }
}

fn method(method: &Method) -> &'static str {
    match METHODS.iter().position(|it| it == method) {
        Some(0) => "GET",
        Some(1) => "POST",
        Some(2) => "PUT",
        Some(3) => "PATCH",
        Some(4) => "DELETE",
        Some(5) => "HEAD",
        Some(6) => "OPTIONS",
        Some(7) => "TRACE",
        _ => "other",
    }
}

/// A request that is being answered: recorded when it is dropped, however it ended.
struct Measuring {
    began: Instant,
    method: &'static str,
    route: Option<MatchedPath>,
    status: u16,
    known: Known,
    _in_flight: Held,
}

impl Measuring {
    fn answered(&mut self, response: &Response) {
        self.status = response.status().as_u16();
    }

    fn route(&self) -> &str {
        (self.route.as_ref()).map_or("unmatched", MatchedPath::as_str)
    }
}

impl Drop for Measuring {
    fn drop(&mut self) {
        let histogram = self.known.histogram(self);
        histogram.record(self.began.elapsed());
    }
}

/// The handles of a route that were needed so far: a few, found without a lock.
#[derive(Debug, Clone, Default)]
struct Known(Arc<ArcSwap<Vec<Series>>>);

#[derive(Debug, Clone)]
struct Series {
    method: &'static str,
    route: String,
    status: u16,
    histogram: metrics::Histogram,
}

impl Known {
    fn histogram(&self, request: &Measuring) -> metrics::Histogram {
        let route = request.route();
        let is_it = |it: &&Series| {
            it.status == request.status && it.method == request.method && it.route == route
        };
        if let Some(series) = self.0.load().iter().find(is_it) {
            return series.histogram.clone();
        }
        let series = Series {
            method: request.method,
            route: route.to_owned(),
            status: request.status,
            histogram: DURATION.with([request.method, route, &request.status.to_string()]),
        };
        self.0
            .rcu(|known| [&known[..], slice::from_ref(&series)].concat());
        series.histogram
    }
}
