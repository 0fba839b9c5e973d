//! From the body of a request to what a user is to be.

use axum::{
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use serde::Deserialize;
use serde_json::Value;
use service_runtime::{
    http::{self, MAX_BODY_BYTES},
    problem::{FieldError, Problem},
};

use super::{email::Email, name::Name};

/// What a client wants a user to be: checked, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) name: Name,
    pub(crate) email: Email,
}

/// Fields that a user does not have are ignored, as the readers of events do.
#[derive(Deserialize)]
struct Fields {
    name: Option<Value>,
    email: Option<Value>,
}

impl<S: Send + Sync> FromRequest<S> for Draft {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE)
                .detail("send the body as content-type: application/json"));
        }
        let body = http::read_body(request.into_body(), MAX_BODY_BYTES).await?;
        Self::parse(&body)
    }
}

impl Draft {
    fn parse(body: &[u8]) -> Result<Self, Problem> {
        let fields: Fields = serde_json::from_slice(body).map_err(|error| {
            if error.is_data() {
                invalid(vec![FieldError::in_body("", error.to_string())])
            } else {
                Problem::new(StatusCode::BAD_REQUEST)
                    .detail(format!("the body is not JSON: {error}"))
            }
        })?;
        let name = field("/name", fields.name.as_ref(), Name::parse);
        let email = field("/email", fields.email.as_ref(), Email::parse);
        match (name, email) {
            (Ok(name), Ok(email)) => Ok(Self { name, email }),
            (name, email) => Err(invalid(name.err().into_iter().chain(email.err()).collect())),
        }
    }
}

fn field<T>(
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

fn invalid(errors: Vec<FieldError>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY)
        .detail("the body is not a valid user")
        .errors(errors)
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    let Some(content_type) = content_type.and_then(|it| it.to_str().ok()) else {
        return false;
    };
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
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
