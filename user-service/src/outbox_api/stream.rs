//! `GET /outbox/stream`: what happens in the outbox, as server-sent events.

use axum::{extract::State, response::Response};
use outbox::feed::{News, Source};
use service_runtime::{
    http::{ClientAddress, Feed},
    progress::Progress,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::OutboxApi;

pub(super) fn router() -> OpenApiRouter<OutboxApi> {
    OpenApiRouter::new().routes(routes!(follow_outbox))
}

/// Follow the outbox (server-sent events)
///
/// `status` comes first, and when it has changed, at most once a second: whether Postgres and NATS are
/// available, who the relay is, and for each stream how many events are pending (counted up to 10,001).
/// Without Postgres it is what was last known. `written` names events that were committed since, and
/// `published` those that a stream has stored since: at most 100 in 100 ms, the newest; `skipped` says
/// about how many more there were. What is committed more than 30 seconds after events with higher ids
/// is left out. `reset` says that the client was too slow and has missed a part.
#[utoipa::path(
    get, path = "/outbox/stream", tag = "outbox",
    responses((status = 200, description = "The outbox as it changes", body = String,
               content_type = "text/event-stream"))
)]
async fn follow_outbox(State(api): State<OutboxApi>, client: ClientAddress) -> Response {
    api.feed.follow(client)
}

/// Tells the followers of `feed` what happens, while there are some.
pub(crate) async fn tell(feed: Feed, source: Source, progress: Progress) -> anyhow::Result<()> {
    while feed.is_wanted(&progress).await {
        let telling = source.follow(&progress, |news| match news {
            News::Status(status) => feed.status(&status),
            News::Written(batch) => feed.batch("written", &batch.events, batch.skipped),
            News::Published(batch) => feed.batch("published", &batch.events, batch.skipped),
        });
        tokio::select! {
            never = telling => match never {},
            () = feed.unwanted() => {}
        }
        feed.forget_status();
    }
    Ok(())
}
