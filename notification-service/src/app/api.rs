//! What the service says of its API as a whole.

use service_runtime::openapi::Api;

use crate::problems;

pub const API: Api = Api {
    title: "Notification service",
    about: include_str!("about.md"),
    problems: problems::ALL,
    headers: &[
        (
            "X-Projection-Lag-Ms",
            "How far the copy is behind the stream, in milliseconds; absent if that is not known.",
        ),
        (
            "X-Damaged-Users",
            "The ids of users on this page whose document is damaged, separated by commas.",
        ),
        (
            "Last-Event-ID",
            "The `id` of the last event that was received, to go on from there.",
        ),
    ],
};
