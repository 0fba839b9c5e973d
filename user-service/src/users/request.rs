//! What several handlers read of a request's path and headers.

use axum::{
    extract::{FromRequestParts, Path},
    http::{HeaderMap, request::Parts},
};
use serde::Serialize;
use service_runtime::{
    http::TraceHeaders,
    number,
    problem::{FieldError, Kind, Problem},
};
use utoipa::IntoParams;

use crate::idempotency::Key;

const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// An id from the path: a positive number of 64 bits.
#[derive(IntoParams)]
#[into_params(names("id"), parameter_in = Path)]
pub(super) struct UserId(#[param(minimum = 1)] pub(super) i64);

impl<S: Send + Sync> FromRequestParts<S> for UserId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        path_id(parts, state).await.map(Self)
    }
}

/// The `id` of a path.
pub(crate) async fn path_id<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<i64, Problem> {
    let id = Path::<String>::from_request_parts(parts, state).await.ok();
    id.and_then(|Path(id)| number::parse(&id))
        .filter(|id| *id > 0)
        .ok_or_else(|| bad_parameter("id", "must be a positive number of at most 64 bits"))
}

pub(crate) fn bad_parameter(name: &'static str, fault: &'static str) -> Problem {
    Problem::new(Kind::INVALID_PARAMETER)
        .detail("the request's path or query is not valid")
        .errors(vec![FieldError::in_parameter(name, fault)])
}

/// The key of a request, if it has one.
///
/// # Errors
/// 400 if it is not valid, or if there are several.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<Key>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let key = value.to_str().ok().and_then(Key::parse);
    let key = key.filter(|_| values.next().is_none());
    key.map(Some).ok_or_else(|| {
        let rule = "must be one value of 1 to 255 visible ASCII characters";
        Problem::new(Kind::INVALID_PARAMETER)
            .detail("the request's headers are not valid")
            .errors(vec![FieldError::in_parameter(IDEMPOTENCY_KEY, rule)])
    })
}

/// The headers of an event that this request causes, as JSON: its trace context.
pub(super) fn event_headers(headers: &HeaderMap) -> Option<String> {
    #[derive(Serialize)]
    struct EventHeaders<'a> {
        traceparent: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        tracestate: Option<&'a str>,
    }
    let context = TraceHeaders::of(headers)?;
    let headers = EventHeaders {
        traceparent: context.traceparent.as_str(),
        tracestate: context.tracestate.as_deref(),
    };
    serde_json::to_string(&headers).ok()
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue};

    use super::event_headers;

    const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn of(traceparent: &str, tracestate: Option<&str>) -> Option<String> {
        let mut headers = HeaderMap::new();
        let value = |text| HeaderValue::from_str(text).expect("a value");
        headers.insert("traceparent", value(traceparent));
        if let Some(tracestate) = tracestate {
            headers.insert("tracestate", value(tracestate));
        }
        event_headers(&headers)
    }

    #[test]
    fn a_trace_context_is_handed_on_as_it_came() {
        let expected = format!(r#"{{"traceparent":"{TRACEPARENT}"}}"#);
        assert_eq!(of(TRACEPARENT, None), Some(expected.clone()));
        assert_eq!(of(TRACEPARENT, Some("no state")), Some(expected));
        let expected = format!(r#"{{"traceparent":"{TRACEPARENT}","tracestate":"a=\"1\""}}"#);
        assert_eq!(of(TRACEPARENT, Some("a=\"1\"")), Some(expected));
    }

    #[test]
    fn what_is_no_trace_context_is_not_handed_on() {
        for bad in [
            &TRACEPARENT.to_uppercase(),
            &TRACEPARENT.replace('-', "_"),
            &TRACEPARENT[1..],
            "",
        ] {
            assert_eq!(of(bad, Some("a=1")), None, "{bad}");
        }
    }
}
