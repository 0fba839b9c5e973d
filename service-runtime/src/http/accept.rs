//! What media types a client can read (RFC 9110, 12.5.1).

use axum::{
    extract::Request,
    http::{HeaderMap, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::problem::{Kind, Problem};

/// Refuses clients that can't read JSON.
pub(super) async fn json(request: Request, next: Next) -> Response {
    if accepts(request.headers(), "application", "json") {
        return next.run(request).await;
    }
    Problem::new(Kind::NOT_ACCEPTABLE)
        .detail("the answer is application/json")
        .into_response()
}

/// Without the header anything goes.
fn accepts(headers: &HeaderMap, r#type: &str, subtype: &str) -> bool {
    let mut ranges = (headers.get_all(header::ACCEPT).iter())
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .peekable();
    ranges.peek().is_none() || ranges.any(|range| includes(range, r#type, subtype))
}

fn includes(range: &str, r#type: &str, subtype: &str) -> bool {
    let mut parts = range.split(';').map(str::trim);
    let Some((major, minor)) = parts.next().and_then(|range| range.split_once('/')) else {
        return false;
    };
    let is_refused = parts.any(|parameter| {
        let weight = parameter
            .strip_prefix("q=")
            .or(parameter.strip_prefix("Q="));
        weight.and_then(|it| it.parse::<f32>().ok()) == Some(0.0)
    });
    let is_named = |given: &str, ours| given == "*" || given.eq_ignore_ascii_case(ours);
    is_named(major, r#type) && is_named(minor, subtype) && !is_refused
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue, header};

    use super::accepts;

    #[test]
    fn ranges_are_looked_through() {
        let accepts = |accept: &str| {
            let mut headers = HeaderMap::new();
            let value = HeaderValue::from_str(accept).expect("a value");
            headers.insert(header::ACCEPT, value);
            accepts(&headers, "application", "json")
        };
        for accept in [
            "*/*",
            "application/*",
            "Application/JSON; charset=utf-8",
            "text/html, application/json;q=0.1",
            "text/html,application/xml;q=0.9,*/*;q=0.8",
        ] {
            assert!(accepts(accept), "{accept}");
        }
        for accept in [
            "text/html",
            "application/json;q=0",
            "text/*, image/png",
            "json",
            "",
        ] {
            assert!(!accepts(accept), "{accept}");
        }
        assert!(super::accepts(&HeaderMap::new(), "application", "json"));
    }
}
