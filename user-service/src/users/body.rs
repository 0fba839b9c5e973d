//! Reading a request's JSON body.

use axum::{
    extract::Request,
    http::{HeaderMap, header},
};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use service_runtime::{
    http::{self, MAX_BODY_BYTES},
    problem::{FieldError, Kind, Problem},
};

pub(super) const JSON: &str = "application/json";

/// The body of a request that says it is of this media type.
///
/// # Errors
/// 415 for another type, 413 for one that is too large, 400 for one that does not come whole.
pub(super) async fn read(request: Request, media_type: &str) -> Result<Vec<u8>, Problem> {
    require(request.headers(), media_type)?;
    http::read_body(request.into_body(), MAX_BODY_BYTES).await
}

/// # Errors
/// 415 if the body says to be of another type than this, or of none.
pub(super) fn require(headers: &HeaderMap, media_type: &str) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE);
    let given = given.and_then(|it| it.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(media_type) {
        return Ok(());
    }
    Err(Problem::new(Kind::UNSUPPORTED_MEDIA_TYPE)
        .detail(format!("send the body as content-type: {media_type}")))
}

/// An object with the fields of `T`.
///
/// # Errors
/// 400 for what is no JSON, 422 for JSON of another shape.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // The derived parser would take a list for an object's fields in their order.
    let is_object = bytes.trim_ascii_start().starts_with(b"{");
    let parsed = if is_object {
        serde_json::from_slice(bytes)
    } else {
        serde_json::from_slice(bytes)
            .and_then(|IgnoredAny| Err(serde::de::Error::custom("must be an object")))
    };
    parsed.map_err(|error| {
        if error.is_data() {
            invalid(vec![FieldError::in_body("", error.to_string())])
        } else {
            Problem::new(Kind::MALFORMED_BODY).detail(format!("the body is not JSON: {error}"))
        }
    })
}

/// A string field that must be there.
pub(super) fn required<T>(
    pointer: &str,
    value: Option<&Value>,
    parse: impl FnOnce(&str) -> Result<T, &'static str>,
) -> Result<T, FieldError> {
    let outcome = match value {
        None => Err("is required"),
        Some(Value::String(text)) => parse(text),
        Some(_) => Err("must be a string"),
    };
    outcome.map_err(|detail| FieldError::in_body(pointer, detail))
}

pub(super) fn invalid(errors: Vec<FieldError>) -> Problem {
    Problem::new(Kind::INVALID_BODY)
        .detail("the body is not valid")
        .errors(errors)
}
