//! The copy as it is compared with the users.

use std::time::Duration;

use chrono::Utc;
use mongodb::bson::RawDocumentBuf;
use service_runtime::digests::{DigestQuery, Digests, DigestsBuilder};
use shared_events::{UserState, user_digest};
use tokio::time::Instant;

use super::{Documents, list, pace::Pace};
use crate::{
    mongo::{Failure, Pool},
    projection::{Damaged, Notification, StoredUser},
};

/// Documents that are read at once.
const BATCH: i64 = 1_000;
const MAX_DAMAGED: usize = 100;
/// Stands for a document that can't be read: such a range never agrees.
const DAMAGED_DIGEST: u64 = 0x6461_6d61_6765_6421;

#[derive(Debug, Clone)]
pub(crate) struct Copy {
    documents: Documents,
}

impl Copy {
    /// As the primary has it.
    pub(crate) fn new(pool: &Pool, collection: &str) -> Self {
        Self::of(Documents::primary(pool, collection))
    }

    pub(super) fn of(documents: Documents) -> Self {
        Self { documents }
    }

    pub(crate) async fn find(
        &self,
        id: i64,
    ) -> Result<Option<Result<StoredUser, Damaged>>, Failure> {
        let found = self.documents.find(id).await?;
        Ok(found.map(|document| StoredUser::read(&document)))
    }

    /// Digests of the living users and of damaged documents. An answer that takes longer than
    /// `max_time` ends early, if it holds a whole range by then.
    pub(crate) async fn digests(
        &self,
        query: DigestQuery,
        pace: &Pace,
        max_time: Duration,
    ) -> Result<Digests, Failure> {
        let (began, read_at) = (Instant::now(), Utc::now());
        let last = query.last.min(UserState::MAX_NUMBER);
        let mut found = Found::new(query);
        let mut after = query.first - 1;
        let is_all = loop {
            let limit = BATCH.min(query.limit() - found.items);
            let limit = usize::try_from(limit).unwrap_or(1);
            let documents = list::read(&self.documents, after, last, limit).await?;
            for document in &documents {
                after = found.take(document).unwrap_or(after).max(after);
            }
            pace.pause(documents.len()).await;
            if documents.len() < limit {
                break true;
            }
            let is_late = found.digests.has_progress() && began.elapsed() > max_time;
            if found.digests.is_full() || is_late {
                break false;
            }
        };
        let digests = found.digests.finish(read_at, is_all);
        Ok(Digests {
            damaged: found.damaged,
            ..digests
        })
    }
}

struct Found {
    digests: DigestsBuilder,
    items: i64,
    damaged: Vec<i64>,
}

impl Found {
    fn new(query: DigestQuery) -> Self {
        Self {
            digests: DigestsBuilder::new(query),
            items: 0,
            damaged: Vec::new(),
        }
    }

    /// The id that the document is listed by.
    fn take(&mut self, document: &RawDocumentBuf) -> Option<i64> {
        let listed = list::listed_id(document)?;
        match StoredUser::read(document) {
            Ok(StoredUser::Living(user)) => self.add(listed, digest(&user)),
            Ok(StoredUser::Deleted(_)) => {}
            Err(damaged) => {
                self.add(listed, DAMAGED_DIGEST);
                if self.damaged.len() < MAX_DAMAGED {
                    self.damaged.push(damaged.user_id.unwrap_or(listed));
                }
            }
        }
        Some(listed)
    }

    fn add(&mut self, id: i64, digest: u64) {
        self.items += 1;
        self.digests.add(id, digest);
    }
}

fn digest(user: &Notification) -> u64 {
    let Notification {
        user_id,
        name,
        email,
        updated_at,
        version,
    } = user;
    user_digest(*user_id, *version, *updated_at, name, email)
}
