//! What the service says of its API as a whole.

use service_runtime::openapi::Api;

use crate::problems;

pub const API: Api = Api {
    title: "User service",
    about: include_str!("about.md"),
    problems: problems::ALL,
    headers: &[
        ("ETag", "The user's version, in quotes."),
        (
            "If-Match",
            "Make the change only if the user has one of these versions: `\"3\"`, or `*` for any.",
        ),
        (
            "Idempotency-Key",
            "1 to 255 visible ASCII characters, quoted or bare. The same request under the same key is \
             carried out once, and gets the same answer each time.",
        ),
        (
            "Idempotency-Replayed",
            "`true` if this is the answer to an earlier request.",
        ),
        ("Location", "Where the user is."),
        (
            "traceparent",
            "W3C trace context, handed on with the event.",
        ),
        (
            "tracestate",
            "W3C trace state, handed on with the trace context.",
        ),
        ("Accept-Patch", "The media type of patches."),
    ],
};
