//! The description of the events, for whoever wants to follow them.

use axum::{Json, routing::get};
use service_runtime::nats::Topic;
use shared_events::{UserEvent, asyncapi};
use utoipa_axum::router::OpenApiRouter;

/// `/asyncapi.json`, and `/user-event.json` that it refers to.
pub(crate) fn router<S: Clone + Send + Sync + 'static>(topic: &Topic) -> OpenApiRouter<S> {
    let description = asyncapi(&topic.stream, &topic.subject);
    let schema = UserEvent::json_schema();
    OpenApiRouter::new()
        .route("/asyncapi.json", get(async move || Json(description)))
        .route("/user-event.json", get(async move || Json(schema)))
}
