//! A span for each request whose trace is sampled, by OpenTelemetry's conventions for HTTP.

use std::sync::Arc;

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method},
    middleware::Next,
    response::Response,
};
use opentelemetry::{
    Context, KeyValue,
    context::FutureExt,
    global::{self, BoxedTracer},
    trace::{Span, SpanBuilder, SpanContext, SpanKind, TraceContextExt, TraceState, Tracer},
};

use super::TraceHeaders;
use crate::telemetry::{
    spans,
    trace_context::{self, TRACEPARENT, TRACESTATE},
};

/// Kept, since every request asks it whether its trace is sampled.
pub(super) fn tracer() -> Arc<BoxedTracer> {
    Arc::new(global::tracer("http-server"))
}

/// Handlers see the context of this span in the request's headers, to hand it on, whether the trace is
/// sampled or not. If it is, the span is current while they run. It ends with the head of the answer.
pub(super) async fn make(
    State(tracer): State<Arc<BoxedTracer>>,
    mut request: Request,
    next: Next,
) -> Response {
    let parent = parent(request.headers()).unwrap_or_default();
    // The sampler needs no more to decide.
    let span = SpanBuilder::from_name("HTTP").with_kind(SpanKind::Server);
    let mut span = tracer.build_with_context(span, &parent);
    hand_on(span.span_context(), request.headers_mut());
    if !span.is_recording() {
        return next.run(request).await;
    }
    describe(&mut span, &request);
    let context = Context::new().with_span(span);
    let response = next.run(request).with_context(context.clone()).await;
    conclude(&context, &response);
    response
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

fn conclude(context: &Context, response: &Response) {
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
