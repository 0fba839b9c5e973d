//! What several handlers read of a request's path and headers.

use axum::{
    extract::{FromRequestParts, Path},
    http::{HeaderMap, request::Parts},
};
use service_runtime::{
    nats::headers::TRACEPARENT,
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
        match Path::<i64>::from_request_parts(parts, state).await {
            Ok(Path(id)) if id > 0 => Ok(Self(id)),
            _ => Err(bad_parameter(
                "id",
                "must be a positive number of at most 64 bits",
            )),
        }
    }
}

pub(super) fn bad_parameter(name: &'static str, fault: &'static str) -> Problem {
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

/// W3C trace context to hand on with the event; anything that is not shaped like one is dropped.
pub(super) fn traceparent(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(TRACEPARENT)?.to_str().ok()?;
    let shaped = value.len() == 55
        && value.bytes().enumerate().all(|(at, byte)| match at {
            2 | 35 | 52 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        });
    shaped.then_some(value)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue};

    use super::traceparent;

    #[test]
    fn only_a_well_shaped_traceparent_is_handed_on() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for (value, kept) in [
            (good, true),
            (&good.to_uppercase(), false),
            (&good.replace('-', "_"), false),
            (&good[1..], false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(
                "traceparent",
                HeaderValue::from_str(value).expect("a value"),
            );
            assert_eq!(traceparent(&headers).is_some(), kept, "{value}");
        }
    }
}
