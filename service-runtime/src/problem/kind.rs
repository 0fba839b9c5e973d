//! Every kind of problem that the services answer with.

use axum::http::{StatusCode, Uri};
use serde_json::{Value, json};

/// What went wrong, as a client's program tells it apart: the `type` of its problem is
/// `/problems/` and the slug, and never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    pub slug: &'static str,
    pub status: StatusCode,
    pub title: &'static str,
    /// For whoever reads the page: what it means and what to do.
    pub advice: &'static str,
}

macro_rules! kinds {
    ($($name:ident $slug:literal $status:ident $title:literal $advice:literal)+) => {
        impl Kind {
            $(pub const $name: Self = Self {
                slug: $slug,
                status: StatusCode::$status,
                title: $title,
                advice: $advice,
            };)+

            /// All of them, in the order of their status.
            pub const ALL: &[Self] = &[$(Self::$name),+];
        }
    };
}

kinds! {
    INVALID_PARAMETER "invalid-parameter" BAD_REQUEST "Invalid parameter"
        "A part of the path, the query or a header is not valid. `errors` names each and says what it must be."
    MALFORMED_BODY "malformed-body" BAD_REQUEST "Malformed body"
        "The body is not JSON, or did not arrive whole. Nothing was done."
    UNAUTHENTICATED "unauthenticated" UNAUTHORIZED "Token required"
        "Send `Authorization: Bearer` with a token that this service knows."
    FORBIDDEN "forbidden" FORBIDDEN "Insufficient scope"
        "The scope of the token does not include this request: every token may read; changes need one of scope write, publishing users again one of scope repair."
    NOT_FOUND "not-found" NOT_FOUND "Not found"
        "There is nothing here: the path is unknown, or what it names does not exist (yet)."
    METHOD_NOT_ALLOWED "method-not-allowed" METHOD_NOT_ALLOWED "Method not allowed"
        "`Allow` lists the methods that this path takes."
    NOT_ACCEPTABLE "not-acceptable" NOT_ACCEPTABLE "Not acceptable"
        "The answer has none of the media types that `Accept` names. `detail` says which it has."
    BODY_TOO_SLOW "body-too-slow" REQUEST_TIMEOUT "Body too slow"
        "The body did not arrive in time. Nothing of it was used, except for the lines of an import that have a result; send it again."
    EMAIL_TAKEN "email-taken" CONFLICT "E-mail address taken"
        "Another user has this address, perhaps in another spelling: case, Unicode composition and the form of an internationalized domain make no difference."
    REQUEST_IN_PROGRESS "request-in-progress" CONFLICT "Request in progress"
        "Another request under the same `Idempotency-Key` is being carried out. Ask again after `Retry-After` for its answer."
    DELETED "deleted" GONE "Deleted"
        "There was such a user, and it was deleted. Ids are never given again."
    VERSION_MISMATCH "version-mismatch" PRECONDITION_FAILED "Version mismatch"
        "The user was changed since: `If-Match` names another version. Read it again, and decide anew."
    BODY_TOO_LARGE "body-too-large" PAYLOAD_TOO_LARGE "Body too large"
        "The body, one line or one chunk of an import is longer than `detail` says it may be."
    UNSUPPORTED_MEDIA_TYPE "unsupported-media-type" UNSUPPORTED_MEDIA_TYPE "Unsupported media type"
        "`Content-Type` is not what this takes. `detail` says what is."
    UNKNOWN_HOST "unknown-host" MISDIRECTED_REQUEST "Unknown host"
        "The `Host` of the request is not a name of this service. Use localhost or a loopback address; the operator can allow other names with ALLOWED_HOSTS."
    INVALID_BODY "invalid-body" UNPROCESSABLE_ENTITY "Invalid body"
        "The body is JSON, but not what is asked for. `errors` names each faulty field by its JSON pointer and says what it must be."
    KEY_REUSED "key-reused" UNPROCESSABLE_ENTITY "Idempotency key reused"
        "The `Idempotency-Key` was used for a different request before. Nothing was done; use a new key."
    IMPORT_REFUSED "import-refused" UNPROCESSABLE_ENTITY "Import refused"
        "A line of an all-or-nothing import can't be written, so nothing was. `lines` tells of those in the first chunk that has any."
    VERSION_REQUIRED "version-required" PRECONDITION_REQUIRED "Version required"
        "This service insists on `If-Match` with the version that is to be changed, which is the `ETag` of the user."
    TOO_MANY_REQUESTS "too-many-requests" TOO_MANY_REQUESTS "Too many requests"
        "This client asks more often than it may. Ask again after `Retry-After`."
    INTERNAL "internal" INTERNAL_SERVER_ERROR "Internal error"
        "A fault of ours. The log has it under the `request_id`."
    DAMAGED "damaged" INTERNAL_SERVER_ERROR "Damaged document"
        "The copy of this user was changed by somebody else and can't be read. `notification-service verify --repair` replaces it. `ETag` has its version if that can be read."
    UNAVAILABLE "unavailable" SERVICE_UNAVAILABLE "Unavailable"
        "What is needed for an answer can't be reached now, or took too long. A write may have been done or not: with an `Idempotency-Key` or `If-Match` it is safe to ask again after `Retry-After`."
    OVERLOADED "overloaded" SERVICE_UNAVAILABLE "Overloaded"
        "More requests are in hand than may be. Nothing was done; ask again after `Retry-After`."
    NOT_YET "not-yet" SERVICE_UNAVAILABLE "Not yet"
        "The copy does not have the version that is waited for. Ask again after `Retry-After`."
    NOT_READY "not-ready" SERVICE_UNAVAILABLE "Not ready"
        "`checks` says which dependency is missing."
}

impl Kind {
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
    #[must_use]
    pub(super) fn of(status: StatusCode) -> Self {
        let first = Self::ALL.iter().find(|kind| kind.status == status);
        let otherwise = if status.is_server_error() {
            Self::INTERNAL
        } else {
            Self::MALFORMED_BODY
        };
        first.copied().unwrap_or(otherwise)
    }
}
