//! Errors that axum and its layers answer with by themselves (unknown path, wrong method), in the
//! same shape as ours.

use axum::{
    extract::Request,
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::REQUEST_ID;
use crate::problem::{self, Kind, Problem};

/// Lets every problem tell the id of its request, and makes problems of plain errors. Their headers,
/// such as `Allow`, stay.
pub(super) async fn explain(request: Request, next: Next) -> Response {
    let id = request.headers().get(REQUEST_ID);
    let id = id.and_then(|id| id.to_str().ok()).map(str::to_owned);
    let answer = async { from_plain_error(next.run(request).await) };
    problem::within_request(id, answer).await
}

fn from_plain_error(response: Response) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let content_type = response.headers().get(header::CONTENT_TYPE);
    if !is_error || content_type.is_some_and(|it| it == "application/problem+json") {
        return response;
    }
    let mut problem = Problem::new(Kind::of(status));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        problem = problem.retry_after(1);
    }
    let mut problem = problem.into_response();
    *problem.status_mut() = status;
    for (name, value) in response.headers() {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            problem.headers_mut().insert(name, value.clone());
        }
    }
    problem
}
