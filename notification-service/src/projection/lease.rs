//! One process at a time that rebuilds a copy, and one that verifies it: a document that expires
//! unless its owner renews it.

use std::time::Duration;

use mongodb::bson::{DateTime, Document, doc};
use tokio::time::{self, Instant};

use super::Projection;
use crate::mongo::Failure;

/// Longer than any write of its owner may take: when another one takes over, nothing that the
/// former owner has sent can still take effect.
const TTL: Duration = Duration::from_secs(30);
const RENEW_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Lease {
    leases: Projection,
    work: &'static str,
    owner: String,
}

impl Projection {
    /// The right to do this work on this copy, such as `rebuild`, for `owner`; `None` while another
    /// one has it.
    pub(crate) async fn lease(
        &self,
        work: &'static str,
        owner: &str,
    ) -> Result<Option<Lease>, Failure> {
        let lease = Lease {
            leases: self.leases(work),
            work,
            owner: owner.to_owned(),
        };
        lease.put_first().await?;
        let is_free = doc! { "$lt": ["$expires_at", "$$NOW"] };
        Ok(lease.extend(is_free).await?.then_some(lease))
    }

    /// Whether somebody has the right to do this work now.
    pub(crate) async fn is_leased(&self, work: &str) -> Result<bool, Failure> {
        let leases = self.leases(work);
        let held = doc! { "_id": work, "$expr": { "$gte": ["$expires_at", "$$NOW"] } };
        let find = doc! { "find": &leases.collection, "filter": held, "limit": 1 };
        let reply = leases.run(find).await?;
        let cursor = reply.get_document("cursor");
        let found = cursor.and_then(|cursor| cursor.get_array("firstBatch"));
        Ok(found.is_ok_and(|found| !found.is_empty()))
    }

    fn leases(&self, work: &str) -> Self {
        let name = format!("{}.{work}_lease", self.collection);
        Self::new(self.pool.clone(), name)
    }
}

impl Lease {
    /// Renews it until it is lost.
    pub(crate) async fn keep(&self) -> anyhow::Error {
        let mut expires = Instant::now() + TTL;
        loop {
            time::sleep(RENEW_INTERVAL).await;
            let begun = Instant::now();
            match self.renew().await {
                Ok(true) => expires = begun + TTL,
                Ok(false) => return anyhow::anyhow!("another {} has taken over", self.work),
                Err(failure) if Instant::now() > expires => return failure.into(),
                Err(failure) => {
                    tracing::warn!(%failure, "the lease of the {} was not renewed", self.work);
                }
            }
        }
    }

    /// False if another one has it. By MongoDB's clock, like all that is said of the lease.
    pub(crate) async fn renew(&self) -> Result<bool, Failure> {
        self.extend(doc! { "$eq": ["$owner", &self.owner] }).await
    }

    /// Lets another one have it at once.
    pub(crate) async fn release(&self) -> Result<(), Failure> {
        let update = doc! {
            "q": { "_id": self.work, "owner": &self.owner },
            "u": { "$set": { "expires_at": DateTime::from_millis(0) } },
        };
        self.update(update).await.map(drop)
    }

    /// A condition on the document's own fields can't be part of an upsert.
    async fn put_first(&self) -> Result<(), Failure> {
        let expired = DateTime::from_millis(0);
        let update = doc! {
            "q": { "_id": self.work },
            "u": { "$setOnInsert": { "owner": "", "expires_at": expired } },
            "upsert": true,
        };
        self.update(update).await.map(drop)
    }

    async fn extend(&self, condition: Document) -> Result<bool, Failure> {
        let ttl = i64::try_from(TTL.as_millis()).unwrap_or(i64::MAX);
        let update = doc! {
            "q": { "_id": self.work, "$expr": condition },
            "u": [{ "$set": {
                "owner": { "$literal": &self.owner },
                "expires_at": { "$add": ["$$NOW", ttl] },
            } }],
        };
        Ok(self.update(update).await? > 0)
    }

    /// How many documents matched.
    async fn update(&self, update: Document) -> Result<i32, Failure> {
        let command = doc! {
            "update": &self.leases.collection,
            "updates": [update],
        };
        let reply = self.leases.change(command).await?;
        Ok(reply.get_i32("n").unwrap_or_default())
    }
}
