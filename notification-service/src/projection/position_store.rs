//! Which events the copy misses because they left the stream unread, as kept beside the copy.

use std::time::Duration;

use chrono::DateTime;
use event_consumer::holes::{Claim, Hole, Position, PositionStore, Range, StoredPosition};
use mongodb::{
    Collection,
    bson::{self, doc},
    error::ErrorKind,
};
use serde::{Deserialize, Serialize};

use crate::mongo::{self, Failure, Pool};

const COLLECTION: &str = "projection_state";
const DEADLINE: Duration = Duration::from_secs(3);
const DUPLICATE_KEY: i32 = 11000;

/// A position as it is stored. Readers of earlier releases know these fields.
#[derive(Debug, Serialize, Deserialize)]
struct StoredDocument {
    #[serde(rename = "_id")]
    id: String,
    /// Grows with each change, so that of several services one makes it.
    revision: i64,
    stream: i64,
    #[serde(default)]
    incarnation: i64,
    settled: i64,
    claim: Option<StoredClaim>,
    known: Vec<StoredRange>,
    holes: Vec<StoredHole>,
    found: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredClaim {
    server: Option<String>,
    settled: i64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct StoredRange {
    first: i64,
    last: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredHole {
    first: i64,
    last: i64,
    found_at: bson::DateTime,
}

/// Keeps the position of the consumer that writes one copy, beside that copy.
#[derive(Debug, Clone)]
pub(crate) struct MongoPositionStore {
    pool: Pool,
    collection: Collection<StoredDocument>,
    id: String,
}

impl MongoPositionStore {
    /// For the copy in the collection `copy`.
    pub(crate) fn new(pool: &Pool, copy: &str) -> Self {
        Self {
            pool: pool.clone(),
            collection: mongo::primary(pool.database(), COLLECTION),
            id: copy.to_owned(),
        }
    }

    /// What is known so far; nothing if nobody has looked for holes yet.
    pub(crate) async fn position(&self) -> Result<Position, Failure> {
        let stored = self.find().await?;
        Ok(stored.map(|it| it.position).unwrap_or_default())
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
        let is_cleared = self.pool.call(DEADLINE, update).await?.matched_count == 1;
        // Nobody has looked for holes yet.
        Ok(is_cleared || self.find().await?.is_none())
    }

    async fn find(&self) -> Result<Option<StoredPosition>, Failure> {
        let (collection, filter) = (self.collection.clone(), doc! { "_id": &self.id });
        let find = async move { collection.find_one(filter).await };
        let found = self.pool.call(DEADLINE, find).await?;
        Ok(found.map(StoredDocument::into_stored_position))
    }

    async fn insert(&self, document: StoredDocument) -> Result<bool, Failure> {
        let collection = self.collection.clone();
        let insert = async move { collection.insert_one(document).await };
        match self.pool.call(DEADLINE, insert).await {
            Err(failure) if is_duplicate(&failure) => Ok(false),
            inserted => inserted.map(|_| true),
        }
    }

    async fn replace(&self, revision: i64, document: StoredDocument) -> Result<bool, Failure> {
        let collection = self.collection.clone();
        let filter = doc! { "_id": &self.id, "revision": revision };
        let replace = async move { collection.replace_one(filter, document).await };
        Ok(self.pool.call(DEADLINE, replace).await?.matched_count == 1)
    }
}

impl PositionStore for MongoPositionStore {
    async fn load(&self) -> anyhow::Result<Option<StoredPosition>> {
        Ok(self.find().await?)
    }

    async fn server(&self) -> anyhow::Result<Option<String>> {
        Ok(mongo::server_process(&self.pool, DEADLINE).await?)
    }

    async fn save(&self, stored: &StoredPosition, expected: Option<i64>) -> anyhow::Result<bool> {
        let document = StoredDocument::new(&self.id, stored);
        Ok(match expected {
            None => self.insert(document).await?,
            Some(revision) => self.replace(revision, document).await?,
        })
    }
}

impl StoredDocument {
    fn new(id: &str, stored: &StoredPosition) -> Self {
        let StoredPosition { position, revision } = stored;
        let range = |it: &Range| StoredRange {
            first: it.first,
            last: it.last,
        };
        let claim = |it: &Claim| StoredClaim {
            server: it.server.clone(),
            settled: it.settled,
        };
        let hole = |it: &Hole| StoredHole {
            first: it.range.first,
            last: it.range.last,
            found_at: bson::DateTime::from_millis(it.found_at.timestamp_millis()),
        };
        Self {
            id: id.to_owned(),
            revision: *revision,
            stream: position.stream,
            incarnation: position.incarnation.cast_signed(),
            settled: position.settled,
            claim: position.claim.as_ref().map(claim),
            known: position.known.iter().map(range).collect(),
            holes: position.holes.iter().map(hole).collect(),
            found: position.found,
        }
    }

    fn into_stored_position(self) -> StoredPosition {
        let range = |it: StoredRange| Range {
            first: it.first,
            last: it.last,
        };
        let claim = |it: StoredClaim| Claim {
            server: it.server,
            settled: it.settled,
        };
        let hole = |it: StoredHole| Hole {
            range: Range {
                first: it.first,
                last: it.last,
            },
            found_at: DateTime::from_timestamp_millis(it.found_at.timestamp_millis())
                .unwrap_or_default(),
        };
        StoredPosition {
            position: Position {
                stream: self.stream,
                incarnation: self.incarnation.cast_unsigned(),
                settled: self.settled,
                claim: self.claim.map(claim),
                known: self.known.into_iter().map(range).collect(),
                holes: self.holes.into_iter().map(hole).collect(),
                found: self.found,
            },
            revision: self.revision,
        }
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
