//! Making spans with the API of OpenTelemetry. Libraries look whether spans are made at all, then at
//! the *sampled* flag of what they have in hand, and only then make one.

use std::{
    borrow::Cow,
    sync::atomic::{AtomicBool, Ordering},
};

use opentelemetry::{
    Context, KeyValue,
    context::FutureExt,
    global::{self, BoxedSpan},
    trace::{SpanBuilder, Status, TraceContextExt, Tracer},
};

static ON: AtomicBool = AtomicBool::new(false);

/// Whether spans are made in this process.
#[must_use]
pub fn are_on() -> bool {
    ON.load(Ordering::Relaxed)
}

#[cfg(feature = "http")]
pub(super) fn turn_on() {
    ON.store(true, Ordering::Relaxed);
}

/// Starts a span of a library, which ends when it is dropped.
#[must_use]
pub fn start(library: &'static str, span: SpanBuilder, parent: &Context) -> BoxedSpan {
    global::tracer(library).build_with_context(span, parent)
}

/// The same in a context of its own, with which it ends.
#[must_use]
pub fn start_in_context(library: &'static str, span: SpanBuilder, parent: &Context) -> Context {
    Context::new().with_span(start(library, span, parent))
}

/// The context of what is being done right now, if its trace is sampled.
#[must_use]
pub fn current() -> Option<Context> {
    if !are_on() {
        return None;
    }
    let if_sampled = |it: &Context| it.span().span_context().is_sampled().then(|| it.clone());
    Context::map_current(if_sampled)
}

/// Makes `context` current while `work` runs.
pub async fn within<T>(context: Option<Context>, work: impl Future<Output = T>) -> T {
    match context {
        Some(context) => work.with_context(context).await,
        None => work.await,
    }
}

/// Marks the span of `context` as failed. The kind of error is one of few words, without anything from
/// the data.
pub fn fail(context: &Context, kind: impl Into<Cow<'static, str>>) {
    let span = context.span();
    span.set_attribute(KeyValue::new("error.type", kind.into()));
    span.set_status(Status::error(""));
}
