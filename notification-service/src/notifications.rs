//! Reading the copy.

mod copy;
mod digests;
mod error;
mod list;
mod one;
mod pace;
mod stream;

use std::{sync::Arc, time::Duration};

use axum::http::{HeaderMap, header};
use metrics::Gauge;
use mongodb::{
    Collection,
    bson::{RawDocumentBuf, doc},
};
use service_runtime::http::{PerClientLimit, Routes};
use utoipa_axum::{router::OpenApiRouter, routes};

pub(crate) use self::{copy::Copy, pace::Pace};
use crate::{
    config::ReaderLimits,
    live::Live,
    metrics::FOLLOWERS,
    mongo::{self, Failure, Pool},
};

/// How long a read may take; MongoDB ends it itself shortly before.
const READ_DEADLINE: Duration = Duration::from_secs(5);
const MAX_TIME: Duration = Duration::from_secs(4);

/// Of the header `Cache-Control`.
const NO_CACHE: &str =
    "With `no-cache` the primary of MongoDB answers, whatever the service's settings prefer";

/// The documents of the copy, and the connections to read them over.
#[derive(Debug, Clone)]
struct Documents {
    pool: Pool,
    collection: Collection<RawDocumentBuf>,
}

impl Documents {
    fn primary(pool: &Pool, collection: &str) -> Self {
        Self {
            pool: pool.clone(),
            collection: mongo::primary(pool.database(), collection),
        }
    }

    fn preferred(pool: &Pool, collection: &str) -> Self {
        Self {
            pool: pool.clone(),
            collection: mongo::preferred(pool.database(), collection),
        }
    }

    /// What is kept of the user, living or deleted.
    async fn find(&self, id: i64) -> Result<Option<RawDocumentBuf>, Failure> {
        let collection = self.collection.clone();
        let finding = self.pool.call(READ_DEADLINE, async move {
            collection
                .find_one(doc! { "_id": id })
                .max_time(MAX_TIME)
                .await
        });
        finding.await
    }
}

/// What the handlers work with, behind an `Arc`: every layer of the HTTP server makes a copy for each
/// request.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    /// On the members that the URI prefers, which may be behind.
    preferred: Documents,
    /// On the member that has every version that was announced.
    primary: Documents,
    live: Live,
    followers: PerClientLimit,
    /// How many they are.
    following: Gauge,
    waiting: PerClientLimit,
}

impl Reader {
    pub(crate) fn new(pool: &Pool, collection: &str, live: Live, limits: &ReaderLimits) -> Self {
        Self {
            preferred: Documents::preferred(pool, collection),
            primary: Documents::primary(pool, collection),
            live,
            followers: limits.followers(),
            following: FOLLOWERS.with([]),
            waiting: limits.waiting(),
        }
    }

    /// Where a request is answered that names no version: on the primary if it says that a copy will
    /// not do.
    fn copy_for(&self, request: &HeaderMap) -> &Documents {
        let wants_the_latest = request
            .get_all(header::CACHE_CONTROL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|directive| directive.trim().eq_ignore_ascii_case("no-cache"));
        if wants_the_latest {
            &self.primary
        } else {
            &self.preferred
        }
    }
}

pub(crate) fn routes() -> Routes<Arc<Reader>> {
    Routes {
        bounded: OpenApiRouter::new()
            .routes(routes!(list::list))
            .routes(routes!(digests::digests))
            .routes(routes!(one::get)),
        streaming: OpenApiRouter::new().routes(routes!(stream::follow)),
        ..Routes::default()
    }
}
