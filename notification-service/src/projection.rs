//! The copy of the users in MongoDB: what a document looks like, and the one way it changes.

mod command;
mod entry;
mod fold;
mod outcome;

use std::time::Duration;

use mongodb::{
    Database,
    bson::{Document, doc},
    error::ErrorKind,
};
use shared_events::UserEvent;

use crate::mongo::{self, Failure};

pub(crate) use entry::{Entry, Notification};
pub(crate) use fold::{Delivered, Fold};
pub(crate) use outcome::{Outcome, Refusal};

/// How long one `update` command may take; MongoDB ends it itself shortly before.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
const TTL_INDEX: &str = "tombstone_ttl";

/// Where the copy is written. Any number of writers may do so at once.
#[derive(Debug, Clone)]
pub(crate) struct Projection {
    database: Database,
    collection: String,
}

impl Projection {
    pub(crate) fn new(database: Database, collection: String) -> Self {
        Self {
            database,
            collection,
        }
    }

    /// Makes MongoDB remove tombstones `ttl` after the deletion. Harmless to repeat.
    ///
    /// An event that is delivered later than that would bring a deleted user back. It can come
    /// from the stream for as long as the stream keeps it, and reaches the stream late by as long
    /// as the outbox waited for its relay: `ttl` must exceed the sum.
    pub(crate) async fn prepare(&self, ttl: Duration) -> Result<(), Failure> {
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let create = doc! {
            "createIndexes": &self.collection,
            "indexes": [{
                "name": TTL_INDEX,
                "key": { "deleted_at": 1 },
                "expireAfterSeconds": seconds,
                // Only tombstones have the field: living users cost the index nothing.
                "sparse": true,
            }],
        };
        match self.run(create).await {
            Err(failure) if has_code(&failure, INDEX_OPTIONS_CONFLICT) => {}
            outcome => return outcome.map(drop),
        }
        let change = doc! {
            "collMod": &self.collection,
            "index": { "name": TTL_INDEX, "expireAfterSeconds": seconds },
        };
        self.run(change).await.map(drop)
    }

    /// Writes each event whose version is above the stored one, as durably as a majority of
    /// MongoDB's members can, and says what became of each, in order. At most one event per user.
    pub(crate) async fn apply(&self, events: &[&UserEvent]) -> Result<Vec<Outcome>, Failure> {
        let mut outcomes = vec![Outcome::Applied; events.len()];
        for command in command::commands(&self.collection, events, &mut outcomes) {
            let database = self.database.clone();
            let reply = mongo::call(WRITE_DEADLINE, async move {
                database.run_raw_command(command.body).await
            });
            outcome::read(reply.await?, &command.events, &mut outcomes)?;
        }
        Ok(outcomes)
    }

    /// Makes the collection.
    ///
    /// # Errors
    /// [`CreateError::Exists`] if it is there already.
    pub(crate) async fn create(&self) -> Result<(), CreateError> {
        match self.run(doc! { "create": &self.collection }).await {
            Err(failure) if has_code(&failure, NAMESPACE_EXISTS) => Err(CreateError::Exists),
            outcome => Ok(outcome.map(drop)?),
        }
    }

    /// Removes the collection with all that is in it.
    pub(crate) async fn discard(&self) -> Result<(), Failure> {
        match self.run(doc! { "drop": &self.collection }).await {
            Err(failure) if has_code(&failure, NAMESPACE_NOT_FOUND) => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Puts this collection in the place of `other`, which is gone from then on: readers see the
    /// one or the other, and nothing between.
    pub(crate) async fn replace(&self, other: &Self) -> Result<(), Failure> {
        let name =
            |projection: &Self| format!("{}.{}", projection.database.name(), projection.collection);
        let rename = doc! {
            "renameCollection": name(self),
            "to": name(other),
            "dropTarget": true,
            "writeConcern": { "w": "majority" },
        };
        let admin = self.database.client().database("admin");
        let renamed = mongo::call(
            WRITE_DEADLINE,
            async move { admin.run_command(rename).await },
        );
        renamed.await.map(drop)
    }

    async fn run(&self, command: Document) -> Result<Document, Failure> {
        let database = self.database.clone();
        mongo::call(WRITE_DEADLINE, async move {
            database.run_command(command).await
        })
        .await
    }
}

/// Why a collection was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    #[error("the collection is there already")]
    Exists,
    #[error(transparent)]
    Failure(#[from] Failure),
}

const NAMESPACE_NOT_FOUND: i32 = 26;
const NAMESPACE_EXISTS: i32 = 48;
/// The index is there with another age.
const INDEX_OPTIONS_CONFLICT: i32 = 85;

fn has_code(failure: &Failure, code: i32) -> bool {
    let Failure::Driver(error) = failure else {
        return false;
    };
    matches!(error.kind.as_ref(), ErrorKind::Command(error) if error.code == code)
}
