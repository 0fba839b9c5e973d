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

use crate::metrics::{Held, REQUEST_DURATION, REQUESTS_IN_FLIGHT};

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
        Self(REQUESTS_IN_FLIGHT.with([]))
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

impl<S, B> Service<Request> for Measured<S>
where
    S: Service<Request, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<B>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let mut measuring = Measuring {
            began: Instant::now(),
            method: method(request.method()),
            matched: request.extensions().get().cloned(),
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
    matched: Option<MatchedPath>,
    status: u16,
    known: Known,
    _in_flight: Held,
}

impl Measuring {
    fn answered<B>(&mut self, response: &Response<B>) {
        self.status = response.status().as_u16();
    }

    fn pattern(&self) -> &str {
        (self.matched.as_ref()).map_or("unmatched", MatchedPath::as_str)
    }
}

impl Drop for Measuring {
    fn drop(&mut self) {
        self.known.record(self);
    }
}

/// The handles of a route that were needed so far: a few, found without a lock.
#[derive(Debug, Clone, Default)]
struct Known(Arc<ArcSwap<Vec<Series>>>);

#[derive(Debug, Clone)]
struct Series {
    method: &'static str,
    pattern: String,
    status: u16,
    histogram: metrics::Histogram,
}

impl Known {
    fn record(&self, request: &Measuring) {
        let elapsed = request.began.elapsed();
        let pattern = request.pattern();
        let is_it = |it: &&Series| {
            it.status == request.status && it.method == request.method && it.pattern == pattern
        };
        if let Some(series) = self.0.load().iter().find(is_it) {
            return series.histogram.record(elapsed);
        }
        let series = Series {
            method: request.method,
            pattern: pattern.to_owned(),
            status: request.status,
            histogram: REQUEST_DURATION.with([
                request.method,
                pattern,
                &request.status.to_string(),
            ]),
        };
        self.0
            .rcu(|known| [&known[..], slice::from_ref(&series)].concat());
        series.histogram.record(elapsed);
    }
}
