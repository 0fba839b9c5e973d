//! The copy of the users in MongoDB: what a document looks like, and the one way it changes.

mod command;
mod entry;
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
            Err(failure) if is_index_conflict(&failure) => {}
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

    async fn run(&self, command: Document) -> Result<Document, Failure> {
        let database = self.database.clone();
        mongo::call(WRITE_DEADLINE, async move {
            database.run_command(command).await
        })
        .await
    }
}

/// The index is there with another age.
fn is_index_conflict(failure: &Failure) -> bool {
    const INDEX_OPTIONS_CONFLICT: i32 = 85;
    let Failure::Driver(error) = failure else {
        return false;
    };
    matches!(error.kind.as_ref(), ErrorKind::Command(error) if error.code == INDEX_OPTIONS_CONFLICT)
}
