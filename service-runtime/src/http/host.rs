//! Which names clients may reach the service by.
//!
//! A web page can point its own name at the loopback address (DNS rebinding), and the browser then
//! takes the service on this host for a part of that page. `Host` still has the page's name.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use anyhow::ensure;
use axum::{
    extract::{Request, State},
    http::{HeaderMap, Uri, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::HttpSettings;
use crate::{
    metrics::REJECTED,
    problem::{Kind, Problem},
};

/// Which names are let through.
#[derive(Debug, Clone)]
pub(super) struct AllowedHosts {
    /// Names beside those of the loopback interface, in lower case.
    names: Arc<[String]>,
    rejected: metrics::Counter,
}

/// `None` if any name will do: where tokens are needed or other hosts can reach the service, unless
/// names are set.
///
/// # Errors
/// If a name that is set is not the name of a host.
pub(super) fn allowed(
    settings: &HttpSettings,
    listens_on: SocketAddr,
) -> anyhow::Result<Option<AllowedHosts>> {
    let names: Vec<_> = (settings.allowed_hosts.iter())
        .map(|name| normalized(name.trim()))
        .collect();
    if names == ["*"] {
        return Ok(None);
    }
    for name in &names {
        let authority = name.parse::<Authority>();
        ensure!(
            authority.is_ok_and(|it| it.host() == name && name != "*"),
            "ALLOWED_HOSTS: {name:?} is not a host name without port, nor `*` alone for any"
        );
    }
    let is_open_locally = !settings.has_tokens() && listens_on.ip().to_canonical().is_loopback();
    Ok(
        (is_open_locally || !names.is_empty()).then(|| AllowedHosts {
            names: names.into(),
            rejected: REJECTED.with(["host"]),
        }),
    )
}

/// Refuses requests that name another host.
pub(super) async fn check(
    State(allowed): State<AllowedHosts>,
    request: Request,
    next: Next,
) -> Response {
    if names_only(request.uri(), request.headers(), &allowed.names) {
        return next.run(request).await;
    }
    allowed.rejected.increment(1);
    Problem::new(Kind::UNKNOWN_HOST)
        .detail("the request names a host that this service does not answer for")
        .into_response()
}

/// Whether a request names this host by a name of the loopback interface, and nothing else.
pub(crate) fn is_for_loopback(target: &Uri, headers: &HeaderMap) -> bool {
    names_only(target, headers, &[])
}

/// HTTP/2 and proxies name the host in the request's target.
fn names_only(target: &Uri, headers: &HeaderMap, allowed: &[String]) -> bool {
    let target = target.authority().cloned().map(Some);
    let headers = headers.get_all(header::HOST).into_iter();
    let headers = headers.map(|value| Authority::try_from(value.as_bytes()).ok());
    let mut named = target.into_iter().chain(headers).peekable();
    named.peek().is_some()
        && named.all(|authority| authority.is_some_and(|it| is_allowed(it.host(), allowed)))
}

fn is_allowed(host: &str, allowed: &[String]) -> bool {
    let host = normalized(host);
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || allowed.contains(&host)
        || (address.parse::<IpAddr>()).is_ok_and(|it| it.to_canonical().is_loopback())
}

fn normalized(host: &str) -> String {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::{body::Body, extract::Request, http::header};

    use super::{allowed, names_only};
    use crate::http::HttpSettings;

    fn settings(hosts: &[&str]) -> HttpSettings {
        HttpSettings {
            allowed_hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            ..HttpSettings::default()
        }
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn hosts_are_checked_without_tokens_on_loopback_and_wherever_names_are_set() {
        let is_checked = |hosts: &[&str], listens_on| {
            let allowed = allowed(&settings(hosts), address(listens_on));
            allowed.expect("valid names").is_some()
        };
        assert!(is_checked(&[], "127.0.0.1:80"));
        assert!(is_checked(&[], "[::1]:80"));
        assert!(!is_checked(&[], "0.0.0.0:80"));
        assert!(is_checked(&["api.example"], "0.0.0.0:80"));
        assert!(!is_checked(&["*"], "127.0.0.1:80"));
        let with_tokens = HttpSettings {
            tokens: Some("read reader-reader-reader".into()),
            ..HttpSettings::default()
        };
        let unchecked = allowed(&with_tokens, address("127.0.0.1:80"));
        assert!(unchecked.expect("no names").is_none());
    }

    #[test]
    fn a_setting_that_is_not_a_host_is_refused() {
        for bad in [
            &["http://api.example"][..],
            &["api.example:80"],
            &["*", "api.example"],
            &["me@api.example"],
            &[""],
        ] {
            assert!(
                allowed(&settings(bad), address("127.0.0.1:80")).is_err(),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_request_must_name_loopback_or_an_allowed_host() {
        let allowed = ["api.example".to_owned()];
        let is_allowed = |hosts: &[&str], target: &str| {
            let mut request = Request::builder().uri(target);
            for host in hosts {
                request = request.header(header::HOST, *host);
            }
            let request = request.body(Body::empty()).expect("a request");
            names_only(request.uri(), request.headers(), &allowed)
        };
        for host in [
            "localhost:8080",
            "LOCALHOST.",
            "127.0.0.1:80",
            "[::1]:80",
            "[::1]",
            "api.example:443",
            "API.example",
        ] {
            assert!(is_allowed(&[host], "/users"), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            "a b",
        ] {
            assert!(!is_allowed(&[host], "/users"), "{host}");
            assert!(
                !is_allowed(&["localhost", host], "/users"),
                "{host} behind another"
            );
        }
        assert!(!is_allowed(&["localhost"], "http://evil.example/users"));
        assert!(is_allowed(&[], "http://localhost/users"));
        assert!(!is_allowed(&[], "/users"));
    }
}
