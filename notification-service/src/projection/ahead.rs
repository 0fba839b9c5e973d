//! Whether one copy has all that another one has.

use std::{collections::HashMap, time::Duration};

use futures::{Stream, StreamExt, TryStreamExt};
use mongodb::{
    Collection,
    bson::{Document, RawDocument, RawDocumentBuf, doc},
    error::Result as MongoResult,
};

use super::Projection;
use crate::mongo::{self, Failure};

/// With so many behind it makes no difference which.
const MAX_BEHIND: usize = 100_000;
const SCAN_DEADLINE: Duration = Duration::from_hours(1);
/// Ids that are looked up at once.
const LOOK_UP: usize = 1_000;

/// What a copy has of a user.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) id: i64,
    version: i64,
    is_living: bool,
}

impl Projection {
    /// What this copy has of users of whom `other` has a lower version, or of living ones nothing, not even
    /// that they were deleted. Both are read in the order of ids, side by side.
    pub(crate) async fn ahead_of(&self, other: &Self) -> Result<Vec<Known>, Failure> {
        let (ours, theirs) = (self.documents(), other.documents());
        let scanning = self.pool.call(SCAN_DEADLINE, async move {
            let mut ours = known(&ours, doc! {}).await?;
            let mut theirs = known(&theirs, doc! {}).await?;
            let mut ahead = Vec::new();
            let mut their = theirs.try_next().await?;
            while let Some(our) = ours.try_next().await? {
                while their.is_some_and(|their| their.id < our.id) {
                    their = theirs.try_next().await?;
                }
                if our.is_ahead_of(their.filter(|their| their.id == our.id)) {
                    ahead.push(our);
                }
                if ahead.len() >= MAX_BEHIND {
                    break;
                }
            }
            Ok(ahead)
        });
        scanning.await
    }

    /// The users of whom others know more than this copy.
    pub(crate) async fn behind(&self, others: &[Known]) -> Result<Vec<i64>, Failure> {
        let mut behind = Vec::new();
        for others in others.chunks(LOOK_UP) {
            let copy = self.documents();
            let ids: Vec<_> = others.iter().map(|it| it.id).collect();
            let filter = doc! { "_id": { "$in": ids } };
            let looking_up = self.pool.call(SCAN_DEADLINE, async move {
                known(&copy, filter).await?.try_collect().await
            });
            let ours: Vec<Known> = looking_up.await?;
            let ours: HashMap<_, _> = ours.into_iter().map(|it| (it.id, it)).collect();
            let is_behind = |other: &&Known| other.is_ahead_of(ours.get(&other.id).copied());
            behind.extend(others.iter().filter(is_behind).map(|it| it.id));
        }
        Ok(behind)
    }

    fn documents(&self) -> Collection<RawDocumentBuf> {
        mongo::primary(self.pool.database(), &self.collection)
    }
}

impl Known {
    /// `None` if its id is none of a user. Without a version it is ahead of nothing.
    fn of(document: &RawDocument) -> Option<Self> {
        let has = |field| document.get(field).is_ok_and(|value| value.is_some());
        Some(Self {
            id: mongo::whole_number(document, "_id")?,
            version: mongo::whole_number(document, "version").unwrap_or_default(),
            is_living: has("updated_at") && !has("deleted_at"),
        })
    }

    fn is_ahead_of(self, other: Option<Self>) -> bool {
        other.map_or(self.is_living, |other| other.version < self.version)
    }
}

async fn known(
    copy: &Collection<RawDocumentBuf>,
    filter: Document,
) -> MongoResult<impl Stream<Item = MongoResult<Known>> + use<>> {
    let fields = doc! { "_id": 1, "version": 1, "updated_at": 1, "deleted_at": 1 };
    let found = copy.find(filter).sort(doc! { "_id": 1 }).projection(fields);
    let known = found.await?.try_filter_map(async |it| Ok(Known::of(&it)));
    Ok(known.boxed())
}
