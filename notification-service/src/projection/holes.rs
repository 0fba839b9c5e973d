//! Which events the copy misses because they left the stream unread, as kept beside the copy.

use std::time::Duration;

use chrono::{DateTime, Utc};
use mongodb::{
    Collection, Database,
    bson::{self, doc},
    error::ErrorKind,
    options::{CollectionOptions, WriteConcern},
};
use serde::{Deserialize, Serialize};

use crate::mongo::{self, Failure};

const COLLECTION: &str = "projection_state";
const DEADLINE: Duration = Duration::from_secs(3);
/// Beyond so many ranges the last one covers the rest.
const MAX_RANGES: usize = 100;
const DUPLICATE_KEY: i32 = 11000;

/// Sequences of events, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Range {
    pub(crate) first: i64,
    pub(crate) last: i64,
}

/// Events that left the stream before they were read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hole {
    #[serde(flatten)]
    pub(crate) range: Range,
    found_at: bson::DateTime,
}

impl Hole {
    pub(crate) fn new(range: Range) -> Self {
        Self {
            range,
            found_at: bson::DateTime::now(),
        }
    }

    pub(crate) fn found_at(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.found_at.timestamp_millis()).unwrap_or_default()
    }
}

/// How far the copy is known to be settled, and what it misses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// When the stream was created, in nanoseconds since 1970: another one counts from 1 again.
    pub(crate) stream: i64,
    /// All events up to here were applied or set aside, but for those in `holes`.
    pub(crate) settled: i64,
    /// Sequences above `settled` that were found missing already.
    pub(crate) known: Vec<Range>,
    /// Not yet made up for.
    pub(crate) holes: Vec<Hole>,
    /// How many events were ever found missing.
    pub(crate) found: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    #[serde(rename = "_id")]
    id: String,
    /// Grows with each change, so that of several services one makes it.
    revision: i64,
    #[serde(flatten)]
    progress: Progress,
}

/// Keeps the [`Progress`] of one copy.
#[derive(Debug, Clone)]
pub(crate) struct HoleStore {
    collection: Collection<Stored>,
    id: String,
}

/// What was read, and the revision that it must still have to be replaced.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub(crate) progress: Progress,
    revision: i64,
}

impl HoleStore {
    /// For the copy in the collection `copy`.
    pub(crate) fn new(database: &Database, copy: &str) -> Self {
        let majority = CollectionOptions::builder()
            .write_concern(WriteConcern::majority())
            .build();
        Self {
            collection: database.collection_with_options(COLLECTION, majority),
            id: copy.to_owned(),
        }
    }

    pub(crate) async fn load(&self) -> Result<Option<Read>, Failure> {
        let (collection, filter) = (self.collection.clone(), doc! { "_id": &self.id });
        let stored = mongo::call(DEADLINE, async move { collection.find_one(filter).await });
        Ok(stored.await?.map(|stored| Read {
            progress: stored.progress,
            revision: stored.revision,
        }))
    }

    /// False if another service was faster: then `read` is out of date.
    pub(crate) async fn save(
        &self,
        read: Option<&Read>,
        mut progress: Progress,
    ) -> Result<bool, Failure> {
        bound(&mut progress);
        let revision = read.map_or(0, |read| read.revision);
        let stored = Stored {
            id: self.id.clone(),
            revision: revision + 1,
            progress,
        };
        let collection = self.collection.clone();
        if read.is_none() {
            let insert = async move { collection.insert_one(stored).await };
            return match mongo::call(DEADLINE, insert).await {
                Err(failure) if is_duplicate(&failure) => Ok(false),
                outcome => outcome.map(|_| true),
            };
        }
        let filter = doc! { "_id": &self.id, "revision": revision };
        let replace = async move { collection.replace_one(filter, stored).await };
        Ok(mongo::call(DEADLINE, replace).await?.matched_count == 1)
    }

    /// Forgets the holes, once the copy is known to have made up for them. False if events were
    /// found missing since there were `found`.
    pub(crate) async fn clear(&self, found: Option<&[i64]>) -> Result<bool, Failure> {
        let mut filter = doc! { "_id": &self.id };
        if let Some(found) = found {
            filter.insert("found", doc! { "$in": found });
        }
        let change = doc! { "$set": { "holes": [] }, "$inc": { "revision": 1 } };
        let collection = self.collection.clone();
        let update = async move { collection.update_one(filter, change).await };
        let is_cleared = mongo::call(DEADLINE, update).await?.matched_count == 1;
        // Nobody has looked for holes yet.
        Ok(is_cleared || self.load().await?.is_none())
    }
}

fn bound(progress: &mut Progress) {
    let last = progress.holes.last().map(|hole| hole.range.last);
    progress.holes.truncate(MAX_RANGES);
    if let (Some(hole), Some(last)) = (progress.holes.last_mut(), last) {
        hole.range.last = last;
    }
    let last = progress.known.last().map(|range| range.last);
    progress.known.truncate(MAX_RANGES);
    if let (Some(range), Some(last)) = (progress.known.last_mut(), last) {
        range.last = last;
    }
}

fn is_duplicate(failure: &Failure) -> bool {
    let Failure::Driver(error) = failure else {
        return false;
    };
    matches!(
        error.kind.as_ref(),
        ErrorKind::Write(mongodb::error::WriteFailure::WriteError(error)) if error.code == DUPLICATE_KEY
    )
}
