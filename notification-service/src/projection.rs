//! The copy of the users in MongoDB: what a document looks like, and the one way it changes.

mod ahead;
mod coalesce;
mod collection;
mod command;
mod command_span;
mod indexes;
mod lease;
mod outcome;
mod position_store;
mod state_store;
mod stored_user;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use metrics::Histogram;
use mongodb::{
    Database,
    bson::{Document, doc},
    error::ErrorKind,
};
use shared_events::UserEvent;

use crate::{
    metrics::WRITE_DURATION,
    mongo::{Failure, Pool},
};

use self::command::Form;
pub(crate) use coalesce::{Coalesced, Decided, ReceivedEvent};
pub(crate) use collection::Settings;
pub(crate) use indexes::LIVING_INDEX;
pub(crate) use lease::Lease;
pub(crate) use outcome::{Refusal, WriteOutcome};
pub(crate) use position_store::MongoPositionStore;
pub(crate) use state_store::StateStore;
pub(crate) use stored_user::{Damaged, Notification, StoredUser};

/// How long one `update` command may take; MongoDB ends it itself shortly before.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);

/// Where the copy is written. Any number of writers may do so at once.
#[derive(Debug, Clone)]
pub(crate) struct Projection {
    pool: Pool,
    collection: String,
    /// Whether most creations of the last batch met documents, as when a stream is read again. Then
    /// to insert first would be a command for nothing.
    is_replay: Arc<AtomicBool>,
    write_duration: Histogram,
}

/// What became of events.
#[derive(Debug)]
pub(crate) struct Applied {
    /// Of each, in order.
    pub(crate) outcomes: Vec<WriteOutcome>,
    /// Of how many of those that count as applied the copy had the version or a later one before.
    pub(crate) stale: usize,
}

impl Projection {
    pub(crate) fn new(pool: Pool, collection: String) -> Self {
        Self {
            pool,
            collection,
            is_replay: Arc::default(),
            write_duration: WRITE_DURATION.with([]),
        }
    }

    /// Writes each event that is newer than what is stored, as durably as a majority of MongoDB's
    /// members can, and says what became of each, in order. At most one event per user.
    pub(crate) async fn apply(&self, events: &[&UserEvent]) -> Result<Applied, Failure> {
        let mut applied = Applied {
            outcomes: vec![WriteOutcome::Applied; events.len()],
            stale: 0,
        };
        let all: Vec<_> = (0..events.len()).collect();
        let form = if self.is_replay.load(Ordering::Relaxed) {
            Form::Compare
        } else {
            Form::InsertNew
        };
        let found = self.write(events, &all, form, &mut applied).await?;
        let creations = events.iter().filter(|event| command::is_creation(event));
        let creations = creations.count();
        if creations > 0 {
            let is_replay = 2 * found.len() > creations;
            self.is_replay.store(is_replay, Ordering::Relaxed);
        }
        if form == Form::InsertNew {
            self.write(events, &found, Form::Compare, &mut applied)
                .await?;
        }
        Ok(applied)
    }

    /// Which of the events are creations of users who are there already.
    async fn write(
        &self,
        events: &[&UserEvent],
        places: &[usize],
        form: Form,
        Applied { outcomes, stale }: &mut Applied,
    ) -> Result<Vec<usize>, Failure> {
        let mut found = Vec::new();
        for command in command::commands(&self.collection, events, places, form, outcomes) {
            let database = self.pool.database().clone();
            let spans = command_span::of_update(&database, &self.collection, command.events.len());
            let started = Instant::now();
            let update = async move { database.run_raw_command(command.body).await };
            let reply = self.pool.call(WRITE_DEADLINE, update).await;
            self.write_duration.record(started.elapsed());
            command_span::conclude(&spans, &reply);
            drop(spans);
            let written = outcome::read(reply?, &command.events, outcomes)?;
            let known = found.len();
            found.extend((command.events.into_iter()).filter(|place| {
                let is_applied = outcomes[*place] == WriteOutcome::Applied;
                let is_new = written.inserted.contains(place);
                is_applied && command::is_creation(events[*place]) && !is_new
            }));
            // Those that are written again in the other form are counted then.
            *stale += match form {
                Form::InsertNew => written.unchanged.saturating_sub(found.len() - known),
                Form::Compare => written.unchanged,
            };
        }
        Ok(found)
    }

    /// A command that only reads.
    async fn run(&self, command: Document) -> Result<Document, Failure> {
        let database = self.pool.database().clone();
        let read = async move { database.run_command(command).await };
        self.pool.call(WRITE_DEADLINE, read).await
    }

    /// Runs a command that changes something, until a majority has the change.
    async fn change(&self, command: Document) -> Result<Document, Failure> {
        let database = self.pool.database().clone();
        self.change_in(database, WRITE_DEADLINE, command).await
    }

    async fn change_in(
        &self,
        database: Database,
        deadline: Duration,
        mut command: Document,
    ) -> Result<Document, Failure> {
        let majority = doc! { "w": "majority", "j": true, "wtimeout": command::MAX_TIME_MS };
        command.insert("writeConcern", majority);
        let change = async move { database.run_command(command).await };
        let reply = self.pool.call(deadline, change).await?;
        // Carried out here, and may yet be rolled back. The driver takes that for success.
        match reply.get_document("writeConcernError") {
            Ok(error) => Err(Failure::Unconfirmed(error.to_string())),
            Err(_) => Ok(reply),
        }
    }
}

fn has_code(failure: &Failure, code: i32) -> bool {
    let Failure::Driver(error) = failure else {
        return false;
    };
    matches!(error.kind.as_ref(), ErrorKind::Command(error) if error.code == code)
}
