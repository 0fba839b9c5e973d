//! The kinds of problems that only this service answers with.

use axum::http::StatusCode;
use service_runtime::problem::Kind;

pub(crate) const DELETED: Kind = Kind::new(
    "deleted",
    StatusCode::GONE,
    "Deleted",
    "There was such a user, and it was deleted. Ids are never given again.",
);
pub(crate) const DAMAGED: Kind = Kind::new(
    "damaged",
    StatusCode::INTERNAL_SERVER_ERROR,
    "Damaged document",
    "The copy of this user was changed by somebody else and can't be read. `notification-service verify --repair` replaces it. `ETag` has its version if that can be read.",
);
pub(crate) const NOT_YET: Kind = Kind::new(
    "not-yet",
    StatusCode::SERVICE_UNAVAILABLE,
    "Not yet",
    "The copy does not have the version that is waited for. Ask again after `Retry-After`.",
);
pub(crate) const ORIGINAL_GONE: Kind = Kind::new(
    "original-gone",
    StatusCode::CONFLICT,
    "Original gone",
    "The event of this dead letter was too large to be kept with it, and is no longer on the stream. It can only be discarded; `notification-service verify --repair` brings its user up to date.",
);

pub(crate) const ALL: &[Kind] = &[ORIGINAL_GONE, DELETED, DAMAGED, NOT_YET];
