//! How old the copy is, said in each response that reads it.

use axum::{
    http::{HeaderName, HeaderValue},
    response::Response,
};
use event_consumer::Lag;

const HEADER: HeaderName = HeaderName::from_static("x-projection-lag-ms");

/// In milliseconds; nothing as long as it is not known.
pub(crate) fn stamp(lag: &Lag, mut response: Response) -> Response {
    let Some(lag) = lag.current() else {
        return response;
    };
    let milliseconds = u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
    let headers = response.headers_mut();
    headers.insert(HEADER, HeaderValue::from(milliseconds));
    response
}
