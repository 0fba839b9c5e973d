//! Reading the copy.

mod error;
mod one;
mod stream;

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::State, response::Response, routing::get};
use futures::TryStreamExt;
use mongodb::{Collection, bson::doc};
use service_runtime::{http::Routes, page::Page};
use tokio::sync::Semaphore;

use self::error::ReadError;
use crate::{
    live::Live,
    mongo,
    projection::{Entry, Notification},
};

/// How long a read may take; MongoDB ends it itself shortly before.
const READ_DEADLINE: Duration = Duration::from_secs(5);
const MAX_TIME: Duration = Duration::from_secs(4);
/// Clients that follow the changes at once.
const MAX_FOLLOWERS: usize = 256;

#[derive(Debug, Clone)]
struct Reader {
    copy: Collection<Entry>,
    live: Live,
    followers: Arc<Semaphore>,
}

pub(crate) fn routes(copy: Collection<Entry>, live: Live) -> Routes {
    let reader = Reader {
        copy,
        live,
        followers: Arc::new(Semaphore::new(MAX_FOLLOWERS)),
    };
    let bounded = Router::new()
        .route("/notifications", get(list))
        .route("/notifications/user/{id}", get(one::get));
    let streaming = Router::new().route("/notifications/stream", get(stream::follow));
    Routes {
        bounded: bounded.with_state(reader.clone()),
        streaming: streaming.with_state(reader),
    }
}

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
