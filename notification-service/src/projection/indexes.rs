//! The indexes of the copy.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use service_runtime::progress::Progress;
use tokio_util::sync::CancellationToken;

use super::{Projection, has_code};
use crate::mongo::Failure;

pub(super) const TTL_INDEX: &str = "tombstone_ttl";
/// Holds the living users only, so that a list does not have to pass over tombstones.
pub(crate) const LIVING_INDEX: &str = "living_users";

/// How long building an index may take before it is asked for again; MongoDB goes on meanwhile.
const BUILD_DEADLINE: Duration = Duration::from_mins(10);
/// How soon an index is made again if somebody has dropped it with its collection.
const CHECK_INTERVAL: Duration = Duration::from_mins(1);
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// The index is there with another age.
const INDEX_OPTIONS_CONFLICT: i32 = 85;

impl Projection {
    /// Makes MongoDB remove tombstones `ttl` after the deletion. Harmless to repeat.
    ///
    /// An event that is delivered later than that would bring a deleted user back. It can come
    /// from the stream for as long as the stream keeps it, and reaches the stream late by as long
    /// as the outbox waited for its relay: `ttl` must exceed the sum.
    pub(crate) async fn prepare(&self, ttl: Duration) -> Result<(), Failure> {
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let index = doc! {
            "name": TTL_INDEX,
            "key": { "deleted_at": 1 },
            "expireAfterSeconds": seconds,
            // Only tombstones have the field: living users cost the index nothing.
            "sparse": true,
        };
        match self.change(self.create_index(index)).await {
            Err(failure) if has_code(&failure, INDEX_OPTIONS_CONFLICT) => {}
            outcome => return outcome.map(drop),
        }
        let change = doc! {
            "collMod": &self.collection,
            "index": { "name": TTL_INDEX, "expireAfterSeconds": seconds },
        };
        self.change(change).await.map(drop)
    }

    /// Makes the index of the living users if there is none; reads and writes go on meanwhile.
    pub(crate) async fn index_living(&self) -> Result<(), Failure> {
        let create = self.create_index(doc! {
            "name": LIVING_INDEX,
            "key": { "user_id": 1 },
            // No tombstone has the field. (That a field is absent can't be a condition.)
            "partialFilterExpression": { "updated_at": { "$exists": true } },
        });
        let database = self.pool.database().clone();
        let built = self.change_in(database, BUILD_DEADLINE, create);
        built.await.map(drop)
    }

    /// Keeps the index of the living users there until `shutdown`. Lists do without it meanwhile,
    /// so that a service with many users to index need not wait before it starts.
    pub(crate) async fn keep_living_indexed(
        self,
        progress: Progress,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let keeping = async {
            loop {
                let pause = match progress.while_retrying(self.index_living()).await {
                    Ok(()) => CHECK_INTERVAL,
                    Err(failure) => {
                        tracing::warn!(%failure, "the living users are not indexed yet");
                        RETRY_INTERVAL
                    }
                };
                progress.rest(pause).await;
            }
        };
        shutdown.run_until_cancelled(keeping).await;
        Ok(())
    }

    fn create_index(&self, index: Document) -> Document {
        doc! { "createIndexes": &self.collection, "indexes": [index] }
    }
}
