//! Which web pages may have something changed where no token is needed.
//!
//! A browser sends simple requests of any page, such as a POST without a body, without asking first:
//! the page does not see the answer, but what it asked for is done. Browsers say whose page it is.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, Uri, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::HttpSettings;
use crate::{
    metrics::REJECTED,
    problem::{Kind, Problem},
};

const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Whose pages may.
#[derive(Debug, Clone)]
pub(super) struct AllowedOrigins {
    /// Beside the service's own.
    origins: Arc<[String]>,
    rejected: metrics::Counter,
}

/// `None` if any page may, or if tokens are needed: no page can send one without being allowed to.
pub(super) fn allowed(settings: &HttpSettings) -> Option<AllowedOrigins> {
    let origins = settings.cors_origins.iter().map(|it| it.trim().to_owned());
    let origins: Arc<[_]> = origins.collect();
    let is_any = origins.iter().any(|it| it == "*");
    (!is_any && !settings.has_tokens()).then(|| AllowedOrigins {
        origins,
        rejected: REJECTED.with(["cross_site"]),
    })
}

/// Refuses changes that a page of another origin asks for.
pub(super) async fn check(
    State(allowed): State<AllowedOrigins>,
    request: Request,
    next: Next,
) -> Response {
    let is_change = ![Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
    if is_change && !is_allowed(request.uri(), request.headers(), &allowed.origins) {
        allowed.rejected.increment(1);
        return Problem::new(Kind::CROSS_SITE)
            .detail("a web page of another origin asks for this")
            .into_response();
    }
    next.run(request).await
}

/// `Sec-Fetch-Site` tells the truth behind a proxy that changes the host, too; older browsers, and
/// all where neither TLS nor loopback is used, send `Origin` alone; programs send neither.
fn is_allowed(target: &Uri, headers: &HeaderMap, allowed: &[String]) -> bool {
    let origin = headers.get(header::ORIGIN);
    let is_listed = origin.is_some_and(|it| allowed.iter().any(|allowed| it == allowed.as_str()));
    match (headers.get(SEC_FETCH_SITE), origin) {
        _ if is_listed => true,
        (Some(site), _) => site == "same-origin" || site == "none",
        (None, Some(origin)) => {
            let origin = Uri::try_from(origin.as_bytes()).ok();
            let origin = origin.and_then(|it| it.authority().cloned());
            origin.is_some_and(|it| own(target, headers).is_some_and(|own| own == it))
        }
        (None, None) => true,
    }
}

/// What the request takes this service for.
fn own(target: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let host = || Authority::try_from(headers.get(header::HOST)?.as_bytes()).ok();
    target.authority().cloned().or_else(host)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};

    use super::is_allowed;

    #[test]
    fn a_page_of_another_origin_changes_nothing_unless_it_is_allowed_to() {
        let is_allowed = |headers: &[(&'static str, &'static str)]| {
            let named = |(name, value): &(&'static str, &'static str)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            };
            let mut headers: HeaderMap = headers.iter().map(named).collect();
            headers.insert("host", HeaderValue::from_static("localhost:8080"));
            let allowed = ["https://app.example".to_owned()];
            is_allowed(&Uri::from_static("/users"), &headers, &allowed)
        };
        let (origin, site) = ("origin", "sec-fetch-site");
        for good in [
            &[][..],
            &[(origin, "http://localhost:8080")],
            &[(origin, "https://app.example")],
            &[(origin, "https://app.example"), (site, "cross-site")],
            &[(origin, "https://proxy.example"), (site, "same-origin")],
            &[(site, "none")],
        ] {
            assert!(is_allowed(good), "{good:?}");
        }
        for bad in [
            &[(origin, "https://evil.example")][..],
            &[(origin, "http://localhost:8081")],
            &[(origin, "null")],
            &[(origin, "")],
            &[(site, "cross-site")],
            &[(origin, "http://localhost:8081"), (site, "same-site")],
        ] {
            assert!(!is_allowed(bad), "{bad:?}");
        }
    }
}
