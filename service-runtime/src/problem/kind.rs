//! Kinds of problems, and those that any service over HTTP answers with.

use axum::http::{StatusCode, Uri};
use serde_json::{Value, json};

/// What went wrong, as a client's program tells it apart: the `type` of its problem is
/// `/problems/` and the slug, and never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Names the kind in the `type` of its problems.
    pub slug: &'static str,
    pub status: StatusCode,
    pub title: &'static str,
    /// For whoever reads the page: what it means and what to do.
    pub advice: &'static str,
}

impl Kind {
    pub const INVALID_PARAMETER: Self = Self::new(
        "invalid-parameter",
        StatusCode::BAD_REQUEST,
        "Invalid parameter",
        "A part of the path, the query or a header is not valid. `errors` names each and says what it must be.",
    );
    pub const MALFORMED_BODY: Self = Self::new(
        "malformed-body",
        StatusCode::BAD_REQUEST,
        "Malformed body",
        "The body is not JSON, or did not arrive whole. Nothing was done.",
    );
    pub const UNAUTHENTICATED: Self = Self::new(
        "unauthenticated",
        StatusCode::UNAUTHORIZED,
        "Token required",
        "Send `Authorization: Bearer` with a token that this service knows.",
    );
    pub const FORBIDDEN: Self = Self::new(
        "forbidden",
        StatusCode::FORBIDDEN,
        "Insufficient scope",
        "The scope of the token does not include this request: every token may read; changes need one of scope write, repairs one of scope repair.",
    );
    pub const CROSS_SITE: Self = Self::new(
        "cross-site",
        StatusCode::FORBIDDEN,
        "Page of another origin",
        "A web page that is not of this service asked for a change, and no token protects it. Nothing was done. The operator can allow the page's origin with CORS_ORIGINS, or set tokens.",
    );
    pub const METRICS_CLOSED: Self = Self::new(
        "metrics-closed",
        StatusCode::FORBIDDEN,
        "Metrics need a setting",
        "Without a token, metrics are served only where the process listens on loopback, and is asked by a loopback name and not by way of a proxy. Set METRICS_TOKEN or METRICS_TOKEN_FILE and send it as a bearer token, or METRICS_OPEN=true if whoever reaches the address may read them.",
    );
    pub const NOT_FOUND: Self = Self::new(
        "not-found",
        StatusCode::NOT_FOUND,
        "Not found",
        "There is nothing here: the path is unknown, or what it names does not exist (yet).",
    );
    pub const METHOD_NOT_ALLOWED: Self = Self::new(
        "method-not-allowed",
        StatusCode::METHOD_NOT_ALLOWED,
        "Method not allowed",
        "`Allow` lists the methods that this path takes.",
    );
    pub const BODY_TOO_SLOW: Self = Self::new(
        "body-too-slow",
        StatusCode::REQUEST_TIMEOUT,
        "Body too slow",
        "The body did not arrive in time. Nothing of it was used, except for lines that have a result; send it again.",
    );
    pub const VERSION_MISMATCH: Self = Self::new(
        "version-mismatch",
        StatusCode::PRECONDITION_FAILED,
        "Version mismatch",
        "It was changed since: `If-Match` names another version. Fetch it again and retry.",
    );
    pub const BODY_TOO_LARGE: Self = Self::new(
        "body-too-large",
        StatusCode::PAYLOAD_TOO_LARGE,
        "Body too large",
        "The body, or the part of it that `detail` names, is longer than `detail` says it may be.",
    );
    pub const UNSUPPORTED_MEDIA_TYPE: Self = Self::new(
        "unsupported-media-type",
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "Unsupported media type",
        "`Content-Type` or `Content-Encoding` is not what this takes. `detail` says what is.",
    );
    pub const UNKNOWN_HOST: Self = Self::new(
        "unknown-host",
        StatusCode::MISDIRECTED_REQUEST,
        "Unknown host",
        "The `Host` of the request is not a name of this service. Use localhost or a loopback address; the operator can allow other names with ALLOWED_HOSTS.",
    );
    pub const INVALID_BODY: Self = Self::new(
        "invalid-body",
        StatusCode::UNPROCESSABLE_ENTITY,
        "Invalid body",
        "The body is JSON, but not what is asked for. `errors` names each faulty field by its JSON pointer and says what it must be.",
    );
    pub const TOO_MANY_REQUESTS: Self = Self::new(
        "too-many-requests",
        StatusCode::TOO_MANY_REQUESTS,
        "Too many requests",
        "This client asks more often than it may. Ask again after `Retry-After`.",
    );
    pub const INTERNAL: Self = Self::new(
        "internal",
        StatusCode::INTERNAL_SERVER_ERROR,
        "Internal error",
        "A fault of ours. The log has it under the `request_id`.",
    );
    pub const UNAVAILABLE: Self = Self::new(
        "unavailable",
        StatusCode::SERVICE_UNAVAILABLE,
        "Unavailable",
        "What is needed for an answer can't be reached now, or took too long. A write may have been done or not: with an `Idempotency-Key` or `If-Match` it is safe to ask again after `Retry-After`.",
    );
    pub const OVERLOADED: Self = Self::new(
        "overloaded",
        StatusCode::SERVICE_UNAVAILABLE,
        "Overloaded",
        "A limit of concurrent requests is reached. Nothing was done; ask again after `Retry-After`.",
    );
    pub const NOT_READY: Self = Self::new(
        "not-ready",
        StatusCode::SERVICE_UNAVAILABLE,
        "Not ready",
        "`checks` says which dependency is missing.",
    );

    /// Those above, in the order of their status.
    pub const COMMON: &[Self] = &[
        Self::INVALID_PARAMETER,
        Self::MALFORMED_BODY,
        Self::UNAUTHENTICATED,
        Self::FORBIDDEN,
        Self::CROSS_SITE,
        Self::METRICS_CLOSED,
        Self::NOT_FOUND,
        Self::METHOD_NOT_ALLOWED,
        Self::BODY_TOO_SLOW,
        Self::VERSION_MISMATCH,
        Self::BODY_TOO_LARGE,
        Self::UNSUPPORTED_MEDIA_TYPE,
        Self::UNKNOWN_HOST,
        Self::INVALID_BODY,
        Self::TOO_MANY_REQUESTS,
        Self::INTERNAL,
        Self::UNAVAILABLE,
        Self::OVERLOADED,
        Self::NOT_READY,
    ];

    /// `slug` is of lower-case letters and hyphens; `advice` is for whoever reads the page: what it
    /// means and what to do, with code in back quotes.
    #[must_use]
    pub const fn new(
        slug: &'static str,
        status: StatusCode,
        title: &'static str,
        advice: &'static str,
    ) -> Self {
        Self {
            slug,
            status,
            title,
            advice,
        }
    }

    /// Names it, and leads to its page.
    pub(super) fn uri(self) -> Uri {
        let uri = Uri::try_from(format!("/problems/{}", self.slug));
        uri.expect("slugs are letters and hyphens")
    }

    /// What it looks like.
    pub(crate) fn example(self) -> Value {
        json!({
            "type": self.uri().path(),
            "title": self.title,
            "status": self.status.as_u16(),
        })
    }

    /// The kind of an error that was answered with a status only.
    pub(crate) fn of(status: StatusCode) -> Self {
        let first = Self::COMMON.iter().find(|kind| kind.status == status);
        let otherwise = if status.is_server_error() {
            Self::INTERNAL
        } else {
            Self::MALFORMED_BODY
        };
        first.copied().unwrap_or(otherwise)
    }
}

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn kinds_differ_and_are_in_the_order_of_their_status() {
        for pair in Kind::COMMON.windows(2) {
            assert!(pair[0].status <= pair[1].status, "{}", pair[1].slug);
        }
        for (at, kind) in Kind::COMMON.iter().enumerate() {
            assert_eq!(kind.uri().path(), format!("/problems/{}", kind.slug));
            let others = &Kind::COMMON[at + 1..];
            assert!(others.iter().all(|it| it.slug != kind.slug));
        }
    }
}
