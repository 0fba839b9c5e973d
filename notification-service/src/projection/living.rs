//! Whether one copy has all users of another.

use std::{collections::HashSet, time::Duration};

use futures::{Stream, StreamExt, TryStreamExt};
use mongodb::{
    Collection,
    bson::{Document, RawDocumentBuf, doc},
    error::Result as MongoResult,
};

use super::Projection;
use crate::mongo::{self, Failure};

/// With so many missing it makes no difference which.
const MAX_MISSING: usize = 100_000;
const SCAN_DEADLINE: Duration = Duration::from_hours(1);
/// Ids that are looked up at once.
const LOOK_UP: usize = 1_000;

impl Projection {
    /// The living users of this copy of whom `other` has nothing, not even that they were deleted.
    /// Both are read in the order of ids, side by side.
    pub(crate) async fn missing_in(&self, other: &Self) -> Result<Vec<i64>, Failure> {
        let (ours, theirs) = (self.documents(), other.documents());
        mongo::call(SCAN_DEADLINE, async move {
            let living = doc! {
                "updated_at": { "$exists": true }, "deleted_at": { "$exists": false },
            };
            let mut ours = ids(&ours, living).await?;
            let mut theirs = ids(&theirs, doc! {}).await?;
            let mut missing = Vec::new();
            let mut their_id = theirs.try_next().await?;
            while let Some(id) = ours.try_next().await? {
                while their_id.is_some_and(|theirs| theirs < id) {
                    their_id = theirs.try_next().await?;
                }
                if their_id != Some(id) {
                    missing.push(id);
                }
                if missing.len() >= MAX_MISSING {
                    break;
                }
            }
            Ok(missing)
        })
        .await
    }

    /// Those of `users` of whom this copy has nothing.
    pub(crate) async fn without(&self, users: &[i64]) -> Result<Vec<i64>, Failure> {
        let mut absent = Vec::new();
        for users in users.chunks(LOOK_UP) {
            let copy = self.documents();
            let filter = doc! { "_id": { "$in": users } };
            let found: HashSet<i64> = mongo::call(SCAN_DEADLINE, async move {
                ids(&copy, filter).await?.try_collect().await
            })
            .await?;
            absent.extend(users.iter().filter(|id| !found.contains(id)));
        }
        Ok(absent)
    }

    fn documents(&self) -> Collection<RawDocumentBuf> {
        mongo::primary(&self.database, &self.collection)
    }
}

async fn ids(
    copy: &Collection<RawDocumentBuf>,
    filter: Document,
) -> MongoResult<impl Stream<Item = MongoResult<i64>> + use<>> {
    let found = copy
        .find(filter)
        .sort(doc! { "_id": 1 })
        .projection(doc! { "_id": 1 });
    let ids = found.await?.try_filter_map(async |document| {
        let id = document.get("_id").ok().flatten();
        Ok(id.and_then(|id| id.as_i64().or(id.as_i32().map(i64::from))))
    });
    Ok(ids.boxed())
}
