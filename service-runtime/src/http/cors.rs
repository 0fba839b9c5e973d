//! Which web pages may call.

use anyhow::{Context, ensure};
use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};
use url::Url;

use super::{HttpSettings, REQUEST_ID};
use crate::telemetry::trace_context::{TRACEPARENT, TRACESTATE};

/// `None` unless web pages may call.
///
/// # Errors
/// If an origin is not one that a browser would name.
pub(super) fn layer(settings: &HttpSettings) -> anyhow::Result<Option<CorsLayer>> {
    if settings.cors_origins.is_empty() {
        return Ok(None);
    }
    let origins = settings.cors_origins.iter().map(|origin| origin.trim());
    let origins: Vec<_> = origins.collect();
    let origins = if origins == ["*"] {
        // No cookies are used, so a page gets no more than its own token lets it.
        AllowOrigin::any()
    } else {
        let origins = origins.into_iter().map(parse);
        AllowOrigin::list(origins.collect::<anyhow::Result<Vec<_>>>()?)
    };
    let methods = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
    ];
    let requested = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        HeaderName::from_static("idempotency-key"),
        HeaderName::from_static("last-event-id"),
        HeaderName::from_static(TRACEPARENT),
        HeaderName::from_static(TRACESTATE),
        REQUEST_ID,
    ];
    let exposed = [
        header::ETAG,
        header::LINK,
        header::LOCATION,
        header::RETRY_AFTER,
        HeaderName::from_static("idempotency-replayed"),
        HeaderName::from_static("x-projection-lag-ms"),
        REQUEST_ID,
    ];
    Ok(Some(
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods(methods)
            .allow_headers(requested)
            .expose_headers(exposed),
    ))
}

/// Exactly as browsers write it: others would never match.
fn parse(origin: &str) -> anyhow::Result<HeaderValue> {
    let written = Url::parse(origin).ok().and_then(|url| {
        let host = url
            .host_str()
            .filter(|host| !host.is_empty() && !host.contains('*'))?;
        let port = url.port().map(|port| format!(":{port}"));
        Some(format!(
            "{}://{host}{}",
            url.scheme(),
            port.unwrap_or_default()
        ))
    });
    let example = written.as_deref().unwrap_or("https://app.example");
    ensure!(
        written.as_deref() == Some(origin),
        "CORS_ORIGINS: {origin:?} is not an origin such as {example:?}, nor `*` alone for any"
    );
    HeaderValue::from_str(origin).context("CORS_ORIGINS")
}

#[cfg(test)]
mod tests {
    use super::layer;
    use crate::http::HttpSettings;

    fn is_valid(origins: &[&str]) -> bool {
        let settings = HttpSettings {
            cors_origins: origins.iter().map(|it| (*it).to_owned()).collect(),
            ..HttpSettings::default()
        };
        layer(&settings).is_ok()
    }

    #[test]
    fn origins_are_checked_at_the_start() {
        for good in [
            &[][..],
            &["*"],
            &["https://app.example", "http://localhost:3000"],
            &["http://[::1]:3000"],
            &["tauri://localhost"],
        ] {
            assert!(is_valid(good), "{good:?}");
        }
        for bad in [
            &[""][..],
            &["null"],
            &["app.example"],
            &["*", "https://app.example"],
            &["https://*.example"],
            &["https://app.example/"],
            &["https://app.example:443"],
            &["https://App.example"],
            &["https://me@app.example"],
            &["https://app.example?x", "https://app.example"],
            &["data:text/plain,x"],
        ] {
            assert!(!is_valid(bad), "{bad:?}");
        }
    }
}
