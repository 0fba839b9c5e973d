//! `/consumer`: what this process does with events, as it happens and for one event.

use axum::{
    Json,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use service_runtime::{
    http::{ClientAddress, Feed, Routes},
    problem::{FieldError, Kind, Problem},
};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{HandledEvent, RecentEvents};

/// What the handlers look at.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    pub(crate) feed: Feed,
    pub(crate) recent: RecentEvents,
}

pub(crate) fn routes() -> Routes<Watched> {
    Routes {
        bounded: OpenApiRouter::new().routes(routes!(find)),
        streaming: OpenApiRouter::new().routes(routes!(follow)),
        ..Routes::default()
    }
}

/// Follow what this process does with events (server-sent events)
///
/// `status` comes first, and again when something has changed, at most once a second: whether MongoDB
/// and NATS answer, how far the copy is behind, and what waits for an operator; a figure that is not
/// known is null. `applied` tells of the events that were handled (`HandledEvent`), at most 100 in a
/// tenth of a second, and how many more there were (`skipped`). `reset` says that this client was too
/// slow and has missed messages. Events that other processes handle are not among them.
#[utoipa::path(
    get, path = "/consumer/stream", tag = "projection",
    responses((status = 200, description = "What happens", body = String,
               content_type = "text/event-stream"))
)]
async fn follow(State(watched): State<Watched>, client: ClientAddress) -> Response {
    watched.feed.follow(client)
}

/// Show what became of an event in this process
///
/// Only the last 10,000 deliveries to this process are known. Of an event that was delivered several
/// times it is the last.
#[utoipa::path(
    get, path = "/consumer/events/{event_id}", tag = "projection",
    params(("event_id" = String, Path, format = "uuid", description = "The event's `ce-id`")),
    responses((status = 200, description = "Its last delivery", body = HandledEvent),
              (status = 404))
)]
async fn find(State(watched): State<Watched>, Path(event_id): Path<String>) -> Response {
    let Ok(event_id) = event_id.parse::<Uuid>() else {
        let error = FieldError::in_parameter("event_id", "must be a UUID");
        return Problem::new(Kind::INVALID_PARAMETER)
            .errors(vec![error])
            .into_response();
    };
    match watched.recent.find(event_id) {
        Some(event) => Json(event).into_response(),
        None => Problem::new(Kind::NOT_FOUND)
            .detail("not among the last 10,000 events of this process")
            .into_response(),
    }
}
