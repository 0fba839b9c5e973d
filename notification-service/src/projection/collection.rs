//! Whole collections: made like another one, put in its place, removed.

use mongodb::bson::{Document, doc};

use super::{
    Projection, WRITE_DEADLINE, has_code,
    indexes::{LIVING_INDEX, TTL_INDEX},
};
use crate::mongo::Failure;

const NAMESPACE_NOT_FOUND: i32 = 26;
/// More than a collection may have.
const MAX_INDEXES: i32 = 1_000;
/// Of one listing of collections; what is left is found by the next rebuild.
const MAX_COLLECTIONS: i32 = 1_000;

/// What an operator may have set on a collection beside what is ours: options such as a validator,
/// and indexes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Settings {
    options: Document,
    indexes: Vec<Document>,
}

impl Projection {
    /// What is set on this collection; nothing if there is none.
    pub(crate) async fn settings(&self) -> Result<Settings, Failure> {
        let list = doc! { "listCollections": 1, "filter": { "name": &self.collection } };
        let found = self.run(list).await?;
        let options = documents(&found)
            .next()
            .and_then(|collection| collection.get_document("options").ok());
        Ok(Settings {
            options: options.cloned().unwrap_or_default(),
            indexes: self.foreign_indexes().await?,
        })
    }

    async fn foreign_indexes(&self) -> Result<Vec<Document>, Failure> {
        let list = doc! { "listIndexes": &self.collection, "cursor": { "batchSize": MAX_INDEXES } };
        let found = match self.run(list).await {
            Err(failure) if has_code(&failure, NAMESPACE_NOT_FOUND) => return Ok(Vec::new()),
            outcome => outcome?,
        };
        let ours = ["_id_", TTL_INDEX, LIVING_INDEX];
        let foreign = documents(&found).filter(|index| {
            let name = index.get_str("name").unwrap_or_default();
            !ours.contains(&name)
        });
        Ok(foreign.cloned().collect())
    }

    /// Makes the collection with these settings. There must be none.
    pub(crate) async fn create(&self, settings: &Settings) -> Result<(), Failure> {
        let mut create = doc! { "create": &self.collection };
        create.extend(settings.options.clone());
        self.change(create).await?;
        if settings.indexes.is_empty() {
            return Ok(());
        }
        let indexes = doc! { "createIndexes": &self.collection, "indexes": &settings.indexes };
        self.change(indexes).await.map(drop)
    }

    /// Removes the collection with all that is in it, if it is there.
    pub(crate) async fn discard(&self) -> Result<(), Failure> {
        match self.change(doc! { "drop": &self.collection }).await {
            Err(failure) if has_code(&failure, NAMESPACE_NOT_FOUND) => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Those collections of the database whose names begin with `prefix`.
    pub(crate) async fn others(&self, prefix: &str) -> Result<Vec<Self>, Failure> {
        let list = doc! {
            "listCollections": 1, "nameOnly": true, "cursor": { "batchSize": MAX_COLLECTIONS },
        };
        let found = self.run(list).await?;
        let names = documents(&found).filter_map(|it| it.get_str("name").ok());
        let others = names.filter(|name| name.starts_with(prefix));
        Ok(others
            .map(|name| Self::new(self.pool.clone(), name.to_owned()))
            .collect())
    }

    /// Puts this collection in the place of `other`, which is gone from then on: readers see the
    /// one or the other, and nothing between.
    pub(crate) async fn replace(&self, other: &Self) -> Result<(), Failure> {
        let database = self.pool.database();
        let name = |projection: &Self| format!("{}.{}", database.name(), projection.collection);
        let rename = doc! {
            "renameCollection": name(self),
            "to": name(other),
            "dropTarget": true,
        };
        let admin = database.client().database("admin");
        let renamed = self.change_in(admin, WRITE_DEADLINE, rename);
        renamed.await.map(drop)
    }
}

/// The documents in the first batch of an answer.
fn documents(answer: &Document) -> impl Iterator<Item = &Document> {
    let cursor = answer.get_document("cursor");
    let batch = cursor.and_then(|cursor| cursor.get_array("firstBatch"));
    let batch = batch.map(Vec::as_slice).unwrap_or_default();
    batch.iter().filter_map(|value| value.as_document())
}
