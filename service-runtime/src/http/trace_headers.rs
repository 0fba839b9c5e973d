//! The trace context in a request's headers.

use std::borrow::Cow;

use axum::http::HeaderMap;

use crate::telemetry::trace_context::{TRACEPARENT, TRACESTATE, Traceparent, is_tracestate};

/// Of the caller; behind [`super::serve`] that of the request's own span, if spans are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceHeaders<'a> {
    pub traceparent: Traceparent<'a>,
    pub tracestate: Option<Cow<'a, str>>,
}

impl<'a> TraceHeaders<'a> {
    /// What is not well-formed counts as not sent.
    #[must_use]
    pub fn of(headers: &'a HeaderMap) -> Option<Self> {
        let traceparent = headers.get(TRACEPARENT)?.to_str().ok()?;
        Some(Self {
            traceparent: Traceparent::parse(traceparent)?,
            tracestate: tracestate(headers).filter(|it| is_tracestate(it)),
        })
    }
}

/// Its parts may stand in several lines.
fn tracestate(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    let mut lines = headers
        .get_all(TRACESTATE)
        .iter()
        .map(|it| it.to_str().ok());
    let first = lines.next()??;
    let rest: Option<Vec<_>> = lines.collect();
    match rest?.as_slice() {
        [] => Some(first.into()),
        rest => Some([&[first], rest].concat().join(",").into()),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderName, HeaderValue};

    use super::TraceHeaders;

    const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::from_static(name);
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    fn tracestate(lines: &[&'static str]) -> Option<String> {
        let states = lines.iter().map(|line| ("tracestate", *line));
        let lines: Vec<_> = [("traceparent", TRACEPARENT)]
            .into_iter()
            .chain(states)
            .collect();
        let headers = headers(&lines);
        let found = TraceHeaders::of(&headers).expect("a trace context");
        assert_eq!(found.traceparent.as_str(), TRACEPARENT);
        found.tracestate.map(String::from)
    }

    #[test]
    fn a_state_may_stand_in_several_lines_and_one_that_is_not_well_formed_is_left_out() {
        assert_eq!(tracestate(&[]), None);
        assert_eq!(tracestate(&["a=1"]).as_deref(), Some("a=1"));
        assert_eq!(
            tracestate(&["a=1", "b=2,c=3"]).as_deref(),
            Some("a=1,b=2,c=3")
        );
        assert_eq!(tracestate(&["a=1", "b"]), None);
    }

    #[test]
    fn without_a_traceparent_there_is_no_context() {
        assert_eq!(TraceHeaders::of(&headers(&[("tracestate", "a=1")])), None);
        assert_eq!(
            TraceHeaders::of(&headers(&[("traceparent", "00-1-2-01")])),
            None
        );
    }
}
