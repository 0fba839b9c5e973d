//! `GET /notifications/stream`: every change as a server-sent event.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::HeaderMap,
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures::{Stream, StreamExt, stream};
use service_runtime::{
    http::{ClientAddress, ClientPermit},
    metrics::Held,
    problem::{Kind, Problem},
};

use super::Reader;
use crate::live::{Item, Live, Subscription, Token};

/// Shorter than what proxies take for a dead connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Follow every change of the copy (server-sent events)
///
/// Events are `changed` and `deleted` with the user as data, `ready` at the beginning, and `reset`
/// if changes were missed: then read the list again. After a break go on with `Last-Event-ID`.
#[utoipa::path(
    get, path = "/notifications/stream", tag = "notifications",
    params(("Last-Event-ID" = Option<String>, Header)),
    responses((status = 200, description = "Changes as they are applied", body = String,
               content_type = "text/event-stream", headers(("X-Projection-Lag-Ms"))))
)]
pub(super) async fn follow(
    State(reader): State<Arc<Reader>>,
    client: ClientAddress,
    headers: HeaderMap,
) -> Response {
    let permit = match reader.followers.try_acquire(client) {
        Ok(permit) => permit,
        Err(reached) => return Problem::from(reached).into_response(),
    };
    match start(&reader.live, &headers).await {
        Ok((first, subscription)) => {
            let first = stream::iter([first]);
            let counted = Held::new(&reader.following);
            let rest = items(subscription, &reader.live, (permit, counted));
            let events = first
                .chain(rest)
                .map(|item| Ok::<_, Infallible>(event(&item)));
            let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
            Sse::new(events).keep_alive(keep_alive).into_response()
        }
        Err(error) => {
            let error = format!("{error:#}");
            tracing::warn!(error, "the changes can't be followed");
            unavailable("the changes can't be followed at the moment")
        }
    }
}

async fn start(live: &Live, headers: &HeaderMap) -> anyhow::Result<(Item, Subscription)> {
    let Some(last) = headers.get("last-event-id") else {
        return live.follow_from_now().await;
    };
    match last.to_str().ok().and_then(Token::parse) {
        Some(last) => live.follow_from(last).await,
        // A browser would give up for good if it were refused.
        None => live.follow_anew().await,
    }
}

/// Ends at shutdown, so that the connection does not hold it up.
fn items(
    subscription: Subscription,
    live: &Live,
    held: (ClientPermit, Held),
) -> impl Stream<Item = Item> + use<> {
    let stopped = live.shutdown().clone().cancelled_owned();
    stream::unfold((subscription, held), async |(mut subscription, held)| {
        let item = subscription.next().await?;
        Some((item, (subscription, held)))
    })
    .take_until(stopped)
}

fn event(item: &Item) -> Event {
    match item {
        Item::Ready(token) => Event::default()
            .id(token.as_str())
            .event("ready")
            .data("{}"),
        Item::Reset(token) => Event::default()
            .id(token.as_str())
            .event("reset")
            .data("{}"),
        Item::Changed(change) => Event::default()
            .id(change.token.as_str())
            .event(if change.deleted { "deleted" } else { "changed" })
            .data(&change.body),
    }
}

fn unavailable(detail: &str) -> Response {
    Problem::new(Kind::UNAVAILABLE)
        .detail(detail)
        .retry_after(1)
        .into_response()
}
