//! The changes of the copy, followed by a change stream of our own.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use futures::StreamExt;
use mongodb::{
    Client, Database,
    bson::{Document as Bson, Timestamp, doc},
    change_stream::{
        ChangeStream,
        event::{ChangeStreamEvent, OperationType, ResumeToken},
    },
    error::ErrorKind,
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::seen::{Change, Seen};
use crate::{
    endpoints::Endpoints,
    history::Violation,
    sources::mongodb::{COLLECTION, Document, Mongodb},
};

const OPEN_DEADLINE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);
/// The place is not known any more, or not yet: it is of another history.
const LOST_PLACE: [i32; 4] = [136, 260, 280, 286];

pub(super) struct Observer {
    record: Arc<Record>,
    /// Ends with the observer.
    _task: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Record {
    copy: Mutex<Observed>,
    lost_places: AtomicU64,
}

#[derive(Debug, Default)]
struct Observed {
    seen: Seen,
    violations: Vec<Violation>,
}

impl Observer {
    pub(super) async fn start(endpoints: &Endpoints) -> anyhow::Result<Self> {
        let client = Client::with_uri_str(&endpoints.mongodb).await?;
        let follower = Follower {
            database: client.database(&endpoints.mongodb_database),
            documents: Mongodb::new(&endpoints.mongodb, &endpoints.mongodb_database).await?,
            record: Arc::default(),
            place: None,
        };
        let record = Arc::clone(&follower.record);
        let changes = timeout(OPEN_DEADLINE, follower.open(None)).await;
        let changes = changes.context("no change stream")??;
        let mut task = JoinSet::new();
        task.spawn(follower.run(changes));
        Ok(Self {
            record,
            _task: task,
        })
    }

    pub(super) fn unseen(&self, documents: &[Document]) -> Vec<Violation> {
        self.record.copy().seen.unseen(documents)
    }

    pub(super) fn may_revive(&self) {
        self.record.copy().seen.may_revive = true;
    }

    pub(super) fn may_go_back(&self) {
        self.record.copy().seen.may_go_back = true;
    }

    pub(super) fn tombstones_expire(&self) {
        self.record.copy().seen.tombstones_expire = true;
    }

    pub(super) fn take_violations(&self) -> Vec<Violation> {
        let mut copy = self.record.copy();
        copy.seen.may_revive = false;
        copy.seen.may_go_back = false;
        std::mem::take(&mut copy.violations)
    }

    pub(super) fn take_lost_places(&self) -> u64 {
        self.record.lost_places.swap(0, Ordering::Relaxed)
    }
}

impl Record {
    fn copy(&self) -> MutexGuard<'_, Observed> {
        self.copy.lock().expect("no observer panics")
    }
}

type Changes = ChangeStream<ChangeStreamEvent<Bson>>;

struct Follower {
    database: Database,
    documents: Mongodb,
    record: Arc<Record>,
    /// After the last change.
    place: Option<ResumeToken>,
}

impl Follower {
    /// From the place, or else from a time of the cluster on.
    async fn open(&self, since: Option<Timestamp>) -> mongodb::error::Result<Changes> {
        let ours =
            doc! { "$match": { "$or": [{ "ns.coll": COLLECTION }, { "to.coll": COLLECTION }] } };
        let opening = self.database.watch().pipeline([ours]);
        match since {
            Some(time) => opening.start_at_operation_time(time).await,
            None => opening.resume_after(self.place.clone()).await,
        }
    }

    async fn run(mut self, mut changes: Changes) {
        loop {
            let lost = self.follow(&mut changes).await;
            changes = self.open_again(lost).await;
        }
    }

    /// Until there is a failure.
    async fn follow(&mut self, changes: &mut Changes) -> Option<mongodb::error::Error> {
        loop {
            match changes.next().await? {
                Ok(change) => {
                    self.place = Some(change.id.clone());
                    self.take(change).await;
                }
                Err(error) => return Some(error),
            }
        }
    }

    async fn open_again(&mut self, failure: Option<mongodb::error::Error>) -> Changes {
        let mut failure = failure;
        loop {
            if failure.as_ref().is_some_and(has_lost_place) {
                self.record.lost_places.fetch_add(1, Ordering::Relaxed);
                self.place = None;
            }
            let since = match self.place {
                Some(_) => None,
                None => Some(self.look_at_all().await),
            };
            sleep(PAUSE).await;
            match timeout(OPEN_DEADLINE, self.open(since)).await {
                Ok(Ok(changes)) => return changes,
                Ok(Err(error)) => failure = Some(error),
                Err(_) => failure = None,
            }
        }
    }

    async fn take(&self, change: ChangeStreamEvent<Bson>) {
        let shown = match change.operation_type {
            OperationType::Insert | OperationType::Replace | OperationType::Update => {
                let Some((user, now)) = shown(&change) else {
                    let what = format!("a change that can't be read: {change:?}");
                    self.violation(Violation::new("documents are written as a whole", what));
                    return;
                };
                self.record.copy().seen.show(user, now)
            }
            OperationType::Delete => match user(&change) {
                Some(user) => self.record.copy().seen.remove(user),
                None => return,
            },
            // Another collection takes the place. (What is dropped without that is missing at the next check.)
            OperationType::Rename => match change.cluster_time {
                Some(time) => return self.look_at(time).await,
                None => return,
            },
            _ => return,
        };
        if let Err(violation) = shown {
            self.violation(violation);
        }
    }

    fn violation(&self, violation: Violation) {
        self.record.copy().violations.push(violation);
    }

    /// Changes were missed, and are followed from the time on that is returned.
    async fn look_at_all(&self) -> Timestamp {
        let time = loop {
            match self.documents.now().await {
                Ok(time) => break time,
                Err(_) => sleep(PAUSE).await,
            }
        };
        self.look_at(time).await;
        time
    }

    /// No user may have gone back by what no change told of.
    async fn look_at(&self, time: Timestamp) {
        let documents = loop {
            match self.documents.all_at(time).await {
                Ok(documents) => break documents,
                Err(_) => sleep(PAUSE).await,
            }
        };
        let mut copy = self.record.copy();
        let violations = copy.seen.show_all(&documents);
        copy.violations.extend(violations);
    }
}

fn has_lost_place(error: &mongodb::error::Error) -> bool {
    match error.kind.as_ref() {
        ErrorKind::Command(error) => LOST_PLACE.contains(&error.code),
        _ => false,
    }
}

fn user(change: &ChangeStreamEvent<Bson>) -> Option<i64> {
    change.document_key.as_ref()?.get_i64("_id").ok()
}

/// The user, and what the change does to the document: replaces it, or some fields of it.
fn shown(change: &ChangeStreamEvent<Bson>) -> Option<(i64, Change)> {
    let fields = match &change.update_description {
        Some(update) => &update.updated_fields,
        None => change.full_document.as_ref()?,
    };
    let is_living = ["name", "email", "updated_at"].map(|field| fields.contains_key(field));
    let is_deleted = match fields.contains_key("deleted_at") {
        true => Some(true),
        false => is_living.contains(&true).then_some(false),
    };
    let version = fields.get_i64("version").ok()?;
    Some((
        user(change)?,
        Change {
            version,
            is_deleted,
        },
    ))
}
