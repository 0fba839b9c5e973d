//! A change of a part of a user: a JSON merge patch (RFC 7396).

#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;

use axum::{
    extract::{FromRequest, Request},
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use service_runtime::problem::Problem;
use utoipa::ToSchema;

use super::{
    body::{self, Field},
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
pub(super) struct PatchBody {
    #[serde(default)]
    #[schema(value_type = Name, inline, required = false)]
    name: Field<String>,
    #[serde(default)]
    #[schema(value_type = EmailText, inline, required = false)]
    email: Field<String>,
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
        let fields: PatchBody = body::parse(bytes)?;
        let name = fields.name.optional("/name", Name::parse);
        let email = fields.email.optional("/email", Email::parse);
        match (name, email) {
            (Ok(name), Ok(email)) => Ok(Self(Change { name, email })),
            (name, email) => {
                let errors = name.err().into_iter().chain(email.err());
                Err(body::invalid(errors.collect()))
            }
        }
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
