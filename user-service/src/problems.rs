//! The kinds of problems that only this service answers with.

use axum::http::StatusCode;
use service_runtime::problem::Kind;

pub(crate) const EMAIL_TAKEN: Kind = Kind::new(
    "email-taken",
    StatusCode::CONFLICT,
    "E-mail address taken",
    "Another user has this address, perhaps in another spelling: case, Unicode composition and the form of an internationalized domain make no difference.",
);
pub(crate) const LATER_EVENTS: Kind = Kind::new(
    "later-events",
    StatusCode::CONFLICT,
    "Later events",
    "The parked event was not published: its aggregate has later events, and this one may not come after them. An operator can publish it nevertheless with `outbox-relay retry ID --out-of-order`, or forget it.",
);
pub(crate) const REQUEST_IN_PROGRESS: Kind = Kind::new(
    "request-in-progress",
    StatusCode::CONFLICT,
    "Request in progress",
    "Another request under the same `Idempotency-Key` is being carried out. Ask again after `Retry-After` for its answer.",
);
pub(crate) const KEY_REUSED: Kind = Kind::new(
    "key-reused",
    StatusCode::UNPROCESSABLE_ENTITY,
    "Idempotency key reused",
    "The `Idempotency-Key` was used for a different request before. Nothing was done; use a new key.",
);
pub(crate) const IMPORT_REFUSED: Kind = Kind::new(
    "import-refused",
    StatusCode::UNPROCESSABLE_ENTITY,
    "Import refused",
    "A line of an all-or-nothing import can't be written, so nothing was. `lines` says what is wrong with the lines of the first chunk that has such lines.",
);
pub(crate) const VERSION_REQUIRED: Kind = Kind::new(
    "version-required",
    StatusCode::PRECONDITION_REQUIRED,
    "Version required",
    "This service insists on `If-Match` with the version that is to be changed, which is the `ETag` of the user.",
);

pub(crate) const ALL: &[Kind] = &[
    EMAIL_TAKEN,
    LATER_EVENTS,
    REQUEST_IN_PROGRESS,
    KEY_REUSED,
    IMPORT_REFUSED,
    VERSION_REQUIRED,
];
