//! A span for each request whose trace is sampled, by OpenTelemetry's conventions for HTTP.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{self, Poll},
};

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderMap, HeaderName, HeaderValue, Method},
    response::Response,
};
use futures::{
    FutureExt, TryFutureExt,
    future::{BoxFuture, Either},
};
use opentelemetry::{
    Context, KeyValue,
    context::FutureExt as _,
    global::{self, BoxedTracer},
    trace::{Span, SpanBuilder, SpanContext, SpanKind, TraceContextExt, TraceState, Tracer},
};
use tower::{Layer, Service};

use super::TraceHeaders;
use crate::telemetry::{
    spans,
    trace_context::{self, TRACEPARENT, TRACESTATE},
};

/// The tracer is kept, since every request asks it whether its trace is sampled.
#[derive(Debug, Clone)]
pub(super) struct ServerSpanLayer(Arc<BoxedTracer>);

impl ServerSpanLayer {
    pub(super) fn new() -> Self {
        Self(Arc::new(global::tracer("http-server")))
    }
}

impl<S> Layer<S> for ServerSpanLayer {
    type Service = ServerSpans<S>;

    fn layer(&self, inner: S) -> ServerSpans<S> {
        ServerSpans {
            inner,
            tracer: Arc::clone(&self.0),
        }
    }
}

/// Handlers see the context of the request's span in its headers, to hand it on. If the trace is sampled,
/// the span is current while they run; it ends with the head of the answer. A trace that begins here and is
/// not sampled has no context: nobody could look it up, and to write it with each event costs a write 5 %.
#[derive(Debug, Clone)]
pub(super) struct ServerSpans<S> {
    inner: S,
    tracer: Arc<BoxedTracer>,
}

impl<S, B> Service<Request> for ServerSpans<S>
where
    S: Service<Request, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: 'static,
{
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response<B>, Infallible>>>;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let parent = parent(request.headers());
        let has_parent = parent.is_some();
        // The sampler needs no more to decide.
        let span = SpanBuilder::from_name("HTTP").with_kind(SpanKind::Server);
        let mut span = (self.tracer).build_with_context(span, &parent.unwrap_or_default());
        if has_parent || span.is_recording() {
            hand_on(span.span_context(), request.headers_mut());
        }
        if !span.is_recording() {
            return Either::Left(self.inner.call(request));
        }
        describe(&mut span, &request);
        let context = Context::new().with_span(span);
        let _current = context.clone().attach();
        let answer = self.inner.call(request).with_context(context.clone());
        let concluded = answer.inspect_ok(move |response| conclude(&context, response));
        Either::Right(concluded.boxed())
    }
}

fn parent(headers: &HeaderMap) -> Option<Context> {
    let TraceHeaders {
        traceparent,
        tracestate,
    } = TraceHeaders::of(headers)?;
    Some(traceparent.context(tracestate.as_deref()))
}

fn hand_on(context: &SpanContext, headers: &mut HeaderMap) {
    let mut set = |name, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set(TRACEPARENT, trace_context::traceparent(context));
    if *context.trace_state() != TraceState::NONE {
        set(TRACESTATE, context.trace_state().header());
    } else {
        headers.remove(TRACESTATE);
    }
}

/// No path and no query: they name users.
fn describe(span: &mut impl Span, request: &Request) {
    let method = match *request.method() {
        Method::GET | Method::POST | Method::PUT | Method::PATCH | Method::DELETE => {
            request.method().as_str()
        }
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    };
    let name = if method == "_OTHER" { "HTTP" } else { method };
    let route = request.extensions().get::<MatchedPath>();
    match route {
        Some(route) => span.update_name(format!("{name} {}", route.as_str())),
        None => span.update_name(name.to_owned()),
    }
    span.set_attribute(KeyValue::new("http.request.method", method.to_owned()));
    span.set_attribute(KeyValue::new("url.scheme", "http"));
    if let Some(route) = route {
        span.set_attribute(KeyValue::new("http.route", route.as_str().to_owned()));
    }
}

fn conclude<B>(context: &Context, response: &Response<B>) {
    let (span, status) = (context.span(), response.status());
    span.set_attribute(KeyValue::new(
        "http.response.status_code",
        i64::from(status.as_u16()),
    ));
    if status.is_server_error() {
        spans::fail(context, status.as_str().to_owned());
    }
    // Others may still hold the context.
    span.end();
}
