//! Reading a request's JSON body.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, header},
};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use service_runtime::{
    http::{self, MAX_BODY_BYTES},
    problem::{FieldError, Kind, Problem},
};
use shared_events::Object;

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
/// 415 if the body says to be of another type than this, or of none, or to be compressed.
pub(super) fn require(headers: &HeaderMap, media_type: &str) -> Result<(), Problem> {
    let given = headers.get(header::CONTENT_TYPE);
    let given = given.and_then(|it| it.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    let detail = if !essence.eq_ignore_ascii_case(media_type) {
        format!("send the body as content-type: {media_type}")
    } else if headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .any(is_encoded)
    {
        "send the body without a content-encoding".to_owned()
    } else {
        return Ok(());
    };
    Err(Problem::new(Kind::UNSUPPORTED_MEDIA_TYPE).detail(detail))
}

fn is_encoded(encoding: &HeaderValue) -> bool {
    !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
}

/// An object with the fields of `T`.
///
/// # Errors
/// 400 for what is no JSON, 422 for JSON of another shape.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let malformed = |fault: &serde_json::Error| {
        Problem::new(Kind::MALFORMED_BODY).detail(format!("the body is not JSON: {fault}"))
    };
    // The parser does not look at fields that nobody reads.
    let text = str::from_utf8(bytes)
        .map_err(|_| Problem::new(Kind::MALFORMED_BODY).detail("the body is not UTF-8"))?;
    let parsed = serde_json::from_str(text).map(|Object(fields)| fields);
    // A wrong shape may have been noticed before the end of what is no JSON.
    parsed.map_err(|fault| match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) if fault.is_data() => invalid(vec![FieldError::in_body("", fault.to_string())]),
        Ok(_) => malformed(&fault),
        Err(fault) => malformed(&fault),
    })
}

/// A field of a body. A value of another type is a fault of this field and not of the whole body, so
/// that each faulty field is named.
#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
pub(super) enum Field<T> {
    #[serde(skip)]
    #[default]
    Absent,
    /// `None` is a null.
    Given(Option<T>),
    OfOtherType(IgnoredAny),
}

impl Field<String> {
    /// A string that must be there.
    pub(super) fn required<T>(
        self,
        pointer: &str,
        parse: impl FnOnce(&str) -> Result<T, &'static str>,
    ) -> Result<T, FieldError> {
        let outcome = match self {
            Self::Absent | Self::Given(None) => Err("is required"),
            Self::Given(Some(text)) => parse(&text),
            Self::OfOtherType(_) => Err("must be a string"),
        };
        outcome.map_err(|detail| FieldError::in_body(pointer, detail))
    }

    /// A string that may be left out, but not be null.
    pub(super) fn optional<T>(
        self,
        pointer: &str,
        parse: impl FnOnce(&str) -> Result<T, &'static str>,
    ) -> Result<Option<T>, FieldError> {
        match self {
            Self::Absent => Ok(None),
            Self::Given(None) => Err(FieldError::in_body(pointer, "can't be removed")),
            given => given.required(pointer, parse).map(Some),
        }
    }
}

pub(super) fn invalid(errors: Vec<FieldError>) -> Problem {
    Problem::new(Kind::INVALID_BODY)
        .detail("the body is not valid")
        .errors(errors)
}
