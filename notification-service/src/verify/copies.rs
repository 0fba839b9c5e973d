//! The copy, by the service's API or straight from MongoDB.

use std::time::Duration;

use service_runtime::digests::{DigestQuery, Digests};

use super::api_client::{ApiClient, Found};
use crate::{
    notifications::{Copy, Pace},
    projection::StoredUser,
};

#[derive(Debug)]
pub(crate) enum Copies {
    Api(ApiClient),
    Stored(Copy),
}

impl Copies {
    pub(super) async fn find(&self, id: i64) -> anyhow::Result<Found> {
        let copy = match self {
            Self::Api(service) => return service.find(id).await,
            Self::Stored(copy) => copy,
        };
        Ok(match copy.find(id).await? {
            None => Found::Nothing,
            Some(Ok(StoredUser::Living(copy))) => Found::Living(copy.into()),
            Some(Ok(StoredUser::Deleted(copy))) => Found::Deleted(Some(copy.version)),
            Some(Err(damaged)) => Found::Damaged(damaged.version),
        })
    }

    /// `None` if this release of the service offers none.
    pub(super) async fn digests(
        &self,
        query: DigestQuery,
        pace: &Pace,
    ) -> anyhow::Result<Option<Digests>> {
        match self {
            Self::Api(service) => service.digests(query).await,
            Self::Stored(copy) => Ok(Some(copy.digests(query, pace, Duration::MAX).await?)),
        }
    }
}
