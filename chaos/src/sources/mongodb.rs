//! What MongoDB has.

use std::time::Duration;

use ::mongodb::{
    Client, Database,
    bson::{Document as Bson, Timestamp, doc},
    options::{ClientOptions, ReadConcern},
};
use anyhow::Context;
use futures::TryStreamExt;
use tokio::time::timeout;

use super::event::User;

/// A document of the copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Document {
    Living(User),
    Deleted {
        id: i64,
        version: i64,
    },
    /// Neither: what is wrong with it.
    Damaged(String),
}

pub(crate) const COLLECTION: &str = "user_notifications";
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Mongodb {
    database: Database,
}

impl Mongodb {
    pub(crate) async fn new(uri: &str, database: &str) -> anyhow::Result<Self> {
        let mut options = ClientOptions::parse(uri).await?;
        options.server_selection_timeout = Some(ANSWER_DEADLINE);
        options.read_concern = Some(ReadConcern::majority());
        let client = Client::with_options(options)?;
        Ok(Self {
            database: client.database(database),
        })
    }

    /// All documents that are no tombstones.
    pub(crate) async fn living(&self) -> anyhow::Result<Vec<Document>> {
        self.find(doc! { "deleted_at": { "$exists": false } }).await
    }

    /// All documents, as they were at this time of the cluster.
    pub(crate) async fn all_at(&self, time: Timestamp) -> anyhow::Result<Vec<Document>> {
        let snapshot = doc! { "level": "snapshot", "atClusterTime": time };
        let find = doc! { "find": COLLECTION, "filter": {}, "readConcern": snapshot };
        let finding = async {
            let documents = self.database.run_cursor_command(find).await?;
            documents.try_collect().await
        };
        in_time(finding).await
    }

    /// The time of the cluster, after everything that was written until now.
    pub(crate) async fn now(&self) -> anyhow::Result<Timestamp> {
        let answer = self.database.run_command(doc! { "ping": 1 });
        let answer = timeout(ANSWER_DEADLINE, answer).await??;
        let time = answer.get_timestamp("operationTime");
        time.context("the server is in no replica set")
    }

    /// What there is of these users.
    pub(crate) async fn of(&self, users: &[i64]) -> anyhow::Result<Vec<Document>> {
        self.find(doc! { "_id": { "$in": users } }).await
    }

    async fn find(&self, filter: Bson) -> anyhow::Result<Vec<Document>> {
        let copy = self.database.collection::<Bson>(COLLECTION);
        in_time(async { copy.find(filter).await?.try_collect().await }).await
    }
}

async fn in_time(
    finding: impl Future<Output = ::mongodb::error::Result<Vec<Bson>>>,
) -> anyhow::Result<Vec<Document>> {
    let found = timeout(ANSWER_DEADLINE, finding).await;
    let found = found.context("no answer from MongoDB")??;
    Ok(found.iter().map(read).collect())
}

fn read(document: &Bson) -> Document {
    match try_read(document) {
        Ok(document) => document,
        Err(error) => Document::Damaged(format!("{error:#}: {document}")),
    }
}

fn try_read(document: &Bson) -> anyhow::Result<Document> {
    let (id, version) = (document.get_i64("_id")?, document.get_i64("version")?);
    let user_id = document.get_i64("user_id")?;
    anyhow::ensure!(user_id == id, "user_id is not _id");
    if document.contains_key("deleted_at") {
        let keeps_personal_data = document.contains_key("name") || document.contains_key("email");
        anyhow::ensure!(!keeps_personal_data, "personal data of a deleted user");
        return Ok(Document::Deleted { id, version });
    }
    Ok(Document::Living(User {
        id,
        version,
        name: document.get_str("name")?.to_owned(),
        email: document.get_str("email")?.to_owned(),
        updated_at: document.get_datetime("updated_at")?.timestamp_millis(),
    }))
}
