//! What is known of the verification of a copy, as kept beside it for all processes.

use std::time::Duration;

use mongodb::{
    Collection,
    bson::{doc, serialize_to_bson},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::mongo::{self, Failure, Pool};

const COLLECTION: &str = "verification_state";
const DEADLINE: Duration = Duration::from_secs(3);

#[derive(Debug, Serialize, Deserialize)]
struct StoredState<T> {
    #[serde(rename = "_id")]
    id: String,
    /// Who may change the state: others have taken over from whoever finds another name here.
    owner: String,
    state: T,
}

/// Keeps the state of one copy.
#[derive(Debug, Clone)]
pub(crate) struct StateStore<T: Send + Sync> {
    pool: Pool,
    collection: Collection<StoredState<T>>,
    id: String,
}

impl<T: Serialize + DeserializeOwned + Default + Send + Sync + 'static> StateStore<T> {
    /// For the copy in the collection `copy`.
    pub(crate) fn new(pool: &Pool, copy: &str) -> Self {
        Self {
            pool: pool.clone(),
            collection: mongo::primary(pool.database(), COLLECTION),
            id: copy.to_owned(),
        }
    }

    /// The default if nothing is known yet.
    pub(crate) async fn load(&self) -> Result<T, Failure> {
        let (collection, filter) = (self.collection.clone(), doc! { "_id": &self.id });
        let find = async move { collection.find_one(filter).await };
        let found = self.pool.call(DEADLINE, find).await?;
        Ok(found.map(|it| it.state).unwrap_or_default())
    }

    /// The same, after which only `owner` can save a state.
    pub(crate) async fn claim(&self, owner: &str) -> Result<T, Failure> {
        let collection = self.collection.clone();
        let filter = doc! { "_id": &self.id };
        let owner = owner.to_owned();
        let claim = async move {
            let state = serialize_to_bson(&T::default())?;
            let update = doc! { "$set": { "owner": owner }, "$setOnInsert": { "state": state } };
            collection.update_one(filter, update).upsert(true).await
        };
        self.pool.call(DEADLINE, claim).await?;
        self.load().await
    }

    /// False if another one has claimed it meanwhile.
    pub(crate) async fn save(&self, owner: &str, state: &T) -> Result<bool, Failure> {
        let collection = self.collection.clone();
        let filter = doc! { "_id": &self.id, "owner": owner };
        let state = serialize_to_bson(state).map_err(mongodb::error::Error::from)?;
        let update = doc! { "$set": { "state": state } };
        let save = async move { collection.update_one(filter, update).await };
        Ok(self.pool.call(DEADLINE, save).await?.matched_count == 1)
    }
}

#[cfg(test)]
mod tests {
    use testkit::mongodb::Database;

    use super::StateStore;
    use crate::mongo::Pool;

    /// A process that was frozen does not undo what another has done since.
    #[tokio::test]
    async fn a_state_is_saved_by_whoever_claimed_it_last_and_by_nobody_else() {
        let database = Database::create().await;
        let store = StateStore::<i32>::new(&Pool::new(database.database, 1), "copy");
        assert_eq!(store.claim("first").await.expect("claimed"), 0);
        assert!(store.save("first", &1).await.expect("an answer"));
        assert_eq!(store.claim("second").await.expect("claimed"), 1);
        assert!(store.save("second", &2).await.expect("an answer"));
        assert!(!store.save("first", &1).await.expect("an answer"));
        assert_eq!(store.load().await.expect("a state"), 2);
    }
}
