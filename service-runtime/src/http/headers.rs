//! Headers that are the same for every answer.

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, header},
    response::Response,
};
use tower_http::compression::{
    CompressionLayer, CompressionLevel, Predicate,
    predicate::{NotForContentType, SizeAbove},
};

use super::REQUEST_ID;

const MAX_REQUEST_ID_BYTES: usize = 128;
/// What is smaller fits into a packet or few, and is sent as it is.
const COMPRESSED_ABOVE_BYTES: u64 = 8 * 1024;

/// An id is written into logs and answers: one that is too long or unprintable is replaced.
pub(super) fn drop_odd_request_id(mut request: Request) -> Request {
    let is_odd = |id: &HeaderValue| {
        let bytes = id.as_bytes();
        !(1..=MAX_REQUEST_ID_BYTES).contains(&bytes.len())
            || !bytes.iter().all(u8::is_ascii_graphic)
    };
    if request.headers().get(REQUEST_ID).is_some_and(is_odd) {
        request.headers_mut().remove(REQUEST_ID);
    }
    request
}

/// Whoever does not accept gzip gets answers as they are, whatever else the request asks for: an answer that
/// is refused for its encoding would hide what was done.
pub(super) fn choose_encoding(mut request: Request) -> Request {
    let headers = request.headers_mut();
    let asked = headers.get_all(header::ACCEPT_ENCODING).into_iter();
    let mut asked = asked.filter_map(|value| value.to_str().ok());
    if asked.any(|list| list.split(',').any(is_gzip)) {
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    } else {
        headers.remove(header::ACCEPT_ENCODING);
    }
    request
}

/// `gzip`, unless its weight is 0.
fn is_gzip(entry: &str) -> bool {
    let (name, weight) = entry.split_once(';').unwrap_or((entry, ""));
    let weight = weight.trim().trim_start_matches(['q', 'Q', '=']);
    name.trim().eq_ignore_ascii_case("gzip") && weight.parse() != Ok(0.0)
}

/// The answers are data about people: for one client, asked for anew each time, never a page.
pub(super) fn secure<B>(mut response: Response<B>) -> Response<B> {
    const ALWAYS: [(HeaderName, HeaderValue); 2] = [
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        ),
    ];
    const UNLESS_SAID: [(HeaderName, HeaderValue); 2] = [
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("private, no-cache"),
        ),
        (
            header::CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
        ),
    ];
    let headers = response.headers_mut();
    headers.extend(ALWAYS);
    for (name, value) in UNLESS_SAID {
        headers.entry(name).or_insert(value);
    }
    response
}

/// For large lists. What comes bit by bit would be held back by it.
pub(super) fn compression() -> CompressionLayer<impl Predicate> {
    let predicate = SizeAbove::new(COMPRESSED_ABOVE_BYTES)
        .and(NotForContentType::const_new("text/event-stream"))
        .and(NotForContentType::const_new("application/x-ndjson"));
    CompressionLayer::new()
        .quality(CompressionLevel::Fastest)
        .compress_when(predicate)
}
