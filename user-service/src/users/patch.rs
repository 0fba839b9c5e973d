//! What a client wants to change of a user: a JSON merge patch (RFC 7396).

use axum::{
    extract::{FromRequest, Request},
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use service_runtime::problem::{FieldError, Problem};

use utoipa::ToSchema;

use super::{
    body,
    email::{Email, EmailText},
    name::Name,
    store::Change,
};

const MERGE_PATCH: &str = "application/merge-patch+json";
const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// The fields that are there, checked; a user has no field that could be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Patch(pub(super) Change);

/// The same fields as a whole user has.
#[derive(Deserialize, ToSchema)]
#[schema(as = UserPatch)]
pub(super) struct Fields {
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Name, inline, required = false)]
    name: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = EmailText, inline, required = false)]
    email: Option<Value>,
}

/// Keeps `null`, which asks for the removal, apart from what is not there.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl<S: Send + Sync> FromRequest<S> for Patch {
    type Rejection = Response;

    async fn from_request(request: Request, _: &S) -> Result<Self, Response> {
        match body::read(request, MERGE_PATCH).await {
            Ok(bytes) => Self::parse(&bytes).map_err(Problem::into_response),
            Err(problem) => {
                let mut response = problem.into_response();
                if response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
                    let accepted = header::HeaderValue::from_static(MERGE_PATCH);
                    response.headers_mut().insert(ACCEPT_PATCH, accepted);
                }
                Err(response)
            }
        }
    }
}

impl Patch {
    fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let fields: Fields = body::parse(bytes)?;
        let name = optional("/name", fields.name.as_ref(), Name::parse);
        let email = optional("/email", fields.email.as_ref(), Email::parse);
        match (name, email) {
            (Ok(name), Ok(email)) => Ok(Self(Change { name, email })),
            (name, email) => {
                let errors = name.err().into_iter().chain(email.err());
                Err(body::invalid(errors.collect()))
            }
        }
    }
}

fn optional<T>(
    pointer: &str,
    value: Option<&Value>,
    parse: impl FnOnce(&str) -> Result<T, &'static str>,
) -> Result<Option<T>, FieldError> {
    match value {
        None => Ok(None),
        Some(Value::Null) => Err(FieldError::in_body(pointer, "can't be removed")),
        given => body::required(pointer, given, parse).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::Patch;

    #[test]
    fn what_is_left_out_stays() {
        let Patch(change) = Patch::parse(br#"{"name": " Ada ", "id": 7}"#).expect("a patch");
        assert_eq!(change.name.expect("a name").as_str(), "Ada");
        assert_eq!(change.email, None);
        assert!(Patch::parse(b"{}").is_ok());
    }

    #[test]
    fn what_can_not_be_is_refused() {
        for body in [
            "",
            "[]",
            "null",
            "7",
            r#"{"name": null}"#,
            r#"{"email": "nobody"}"#,
        ] {
            assert!(Patch::parse(body.as_bytes()).is_err(), "{body}");
        }
    }
}
