//! Reading the copy.

mod error;
mod one;
mod stream;

use std::time::Duration;

use axum::{extract::State, response::Response};
use futures::TryStreamExt;
use mongodb::{Collection, bson::doc};
use service_runtime::{
    http::{PerClientLimit, Routes},
    page::{Page, PageParameters},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::error::ReadError;
use crate::{
    config::ReaderLimits,
    live::Live,
    mongo,
    projection::{Entry, Notification},
};

/// How long a read may take; MongoDB ends it itself shortly before.
const READ_DEADLINE: Duration = Duration::from_secs(5);
const MAX_TIME: Duration = Duration::from_secs(4);

/// What the handlers work with.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    copy: Collection<Entry>,
    live: Live,
    followers: PerClientLimit,
    waiting: PerClientLimit,
}

impl Reader {
    pub(crate) fn new(copy: Collection<Entry>, live: Live, limits: &ReaderLimits) -> Self {
        Self {
            copy,
            live,
            followers: limits.followers(),
            waiting: limits.waiting(),
        }
    }
}

pub(crate) fn routes() -> Routes<Reader> {
    Routes {
        bounded: OpenApiRouter::new()
            .routes(routes!(list))
            .routes(routes!(one::get)),
        streaming: OpenApiRouter::new().routes(routes!(stream::follow)),
        ..Routes::default()
    }
}

/// List the users of the copy in the order of their ids, page by page
#[utoipa::path(
    get, path = "/notifications", tag = "notifications",
    params(PageParameters),
    responses((status = 200, description = "A page", body = Vec<Notification>,
               headers(("Link"), ("X-Projection-Lag-Ms"))))
)]
async fn list(
    State(Reader { copy, .. }): State<Reader>,
    page: Page,
) -> Result<Response, ReadError> {
    let (after, limit) = (page.after, page.limit);
    let entries: Vec<_> = mongo::call(READ_DEADLINE, async move {
        let cursor = copy
            .find(doc! { "_id": { "$gt": after }, "deleted_at": { "$exists": false } })
            .sort(doc! { "_id": 1 })
            .limit(limit.into())
            .batch_size(limit.into())
            .max_time(MAX_TIME)
            .await?;
        cursor.try_collect().await
    })
    .await?;
    let living = entries.into_iter().filter_map(Entry::living);
    let notifications: Vec<Notification> = living.collect();
    Ok(page.respond(&notifications, |notification| notification.user_id))
}
