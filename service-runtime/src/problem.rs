//! Errors as clients see them: RFC 9457 problem details.

mod kind;
mod page;

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use problem_details::{JsonProblemDetails, ProblemDetails};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

pub(crate) use self::page::router;
pub use self::{kind::Kind, page::markdown};

tokio::task_local! {
    /// The id of the request that is being answered.
    static REQUEST_ID: Option<String>;
}

/// An error response. What it says is meant for the client: nothing of drivers, queries or hosts.
#[derive(Debug, Clone)]
pub struct Problem {
    details: Box<ProblemDetails<Members>>,
    retry_after_seconds: Option<u32>,
}

/// What a problem can hold beyond the members that the RFC names.
#[derive(Debug, Default, Clone, Serialize)]
struct Members {
    /// Every fault found in the request, not just the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// What a readiness check found, by dependency.
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<serde_json::Value>,
    /// What to look for in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    /// What is wrong with which lines of a body.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lines: Vec<LineProblem>,
}

#[derive(Debug, Clone, Serialize)]
struct LineProblem {
    line: u64,
    problem: Problem,
}

/// Problem details (RFC 9457).
#[derive(ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "nothing is read of a description")]
pub(crate) struct ProblemBody {
    /// Tells the kinds of problems apart, and leads to the explanation of this one.
    #[schema(format = "uri-reference", example = "/problems/not-found")]
    r#type: String,
    title: String,
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong with this very request.
    #[schema(nullable = false)]
    detail: Option<String>,
    /// What to look for in the log.
    #[schema(nullable = false)]
    request_id: Option<String>,
    /// Each fault: at a JSON pointer of the body, or in a parameter.
    #[schema(inline, nullable = false)]
    errors: Option<Vec<FieldError>>,
    /// What a readiness check found, by dependency.
    #[schema(value_type = Option<HashMap<String, String>>, nullable = false)]
    checks: Option<()>,
    /// What is wrong with which lines of the body.
    #[schema(value_type = Option<Vec<Object>>, nullable = false)]
    lines: Option<()>,
}

/// One fault in a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    #[serde(flatten)]
    #[schema(inline)]
    place: Place,
    detail: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Place {
    Pointer(String),
    Parameter(&'static str),
}

impl FieldError {
    /// A fault in the body, at a JSON pointer (RFC 6901) such as `/email`.
    #[must_use]
    pub fn in_body(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            place: Place::Pointer(pointer.into()),
            detail: detail.into(),
        }
    }

    /// A fault in a parameter of the path or the query.
    #[must_use]
    pub fn in_parameter(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            place: Place::Parameter(name),
            detail: detail.into(),
        }
    }
}

impl Problem {
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        let details = ProblemDetails::new()
            .with_status(kind.status)
            .with_title(kind.title)
            .with_type(kind.uri())
            .with_extensions(Members::default());
        Self {
            details: Box::new(details),
            retry_after_seconds: None,
        }
    }

    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.details.detail = Some(detail.into());
        self
    }

    #[must_use]
    pub fn errors(mut self, errors: Vec<FieldError>) -> Self {
        self.details.extensions.errors = errors;
        self
    }

    #[must_use]
    pub fn checks(mut self, checks: serde_json::Value) -> Self {
        self.details.extensions.checks = Some(checks);
        self
    }

    /// What is wrong with which lines of the body, from 1.
    #[must_use]
    pub fn lines(mut self, lines: Vec<(u64, Problem)>) -> Self {
        self.details.extensions.lines = (lines.into_iter())
            .map(|(line, problem)| LineProblem { line, problem })
            .collect();
        self
    }

    /// When trying again may help.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }
}

/// As the body of its response.
impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.details.serialize(serializer)
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        self.details.extensions.request_id = REQUEST_ID.try_with(Clone::clone).ok().flatten();
        let mut response = JsonProblemDetails::from(*self.details).into_response();
        if let Some(seconds) = self.retry_after_seconds {
            let headers = response.headers_mut();
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Problems that `answer` leads to tell the id of the request.
pub(crate) async fn within_request<T>(id: Option<String>, answer: impl Future<Output = T>) -> T {
    REQUEST_ID.scope(id, answer).await
}
