//! A whole user as a client asks for it: to be created, or to replace another.

use axum::extract::{FromRequest, Request};
use serde::Deserialize;
use service_runtime::problem::Problem;
use utoipa::ToSchema;

use super::{
    body::{self, Field},
    email::{Email, EmailText},
    name::Name,
};

/// A whole user, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) name: Name,
    pub(crate) email: Email,
}

/// Fields that a user does not have are ignored, as the readers of events do.
#[derive(Deserialize, ToSchema)]
#[schema(as = UserDraft)]
pub(super) struct DraftBody {
    #[serde(default)]
    #[schema(value_type = Name, inline, required)]
    name: Field<String>,
    #[serde(default)]
    #[schema(value_type = EmailText, inline, required)]
    email: Field<String>,
}

impl<S: Send + Sync> FromRequest<S> for Draft {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        Self::parse(&body::read(request, body::JSON).await?)
    }
}

impl Draft {
    /// # Errors
    /// Says what keeps these bytes from being a user: every faulty field is named.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let fields: DraftBody = body::parse(bytes)?;
        let name = fields.name.required("/name", Name::parse);
        let email = fields.email.required("/email", Email::parse);
        match (name, email) {
            (Ok(name), Ok(email)) => Ok(Self { name, email }),
            (name, email) => {
                let errors = name.err().into_iter().chain(email.err());
                Err(body::invalid(errors.collect()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use proptest::prelude::*;

    use super::Draft;

    async fn refusal(body: &str) -> (u16, String) {
        let problem = Draft::parse(body.as_bytes()).expect_err("not a user");
        let response = problem.into_response();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
        let body = body.expect("a body in memory");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn every_faulty_field_is_named() {
        let (status, body) = refusal(r#"{"name": 7}"#).await;
        assert_eq!(status, 422);
        assert!(
            body.contains(r#"{"pointer":"/name","detail":"must be a string"}"#),
            "{body}"
        );
        assert!(
            body.contains(r#"{"pointer":"/email","detail":"is required"}"#),
            "{body}"
        );
    }

    #[tokio::test]
    async fn what_is_no_json_is_told_from_what_is_no_user() {
        let deep = "[".repeat(10_000);
        for body in [
            "",
            "{",
            "hello",
            r#"{"name":"\ud800","email":"a@b.c"}"#,
            &deep,
        ] {
            assert_eq!(refusal(body).await.0, 400, "{body}");
        }
        for body in [
            "[]",
            r#"["Ada","a@b.c"]"#,
            "null",
            "7",
            r#"{"name":"a","name":"b","email":"a@b.c"}"#,
        ] {
            assert_eq!(refusal(body).await.0, 422, "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_body_makes_the_parser_panic(body in any::<Vec<u8>>()) {
            prop_assert!(Draft::parse(&body).is_err());
        }
    }
}
