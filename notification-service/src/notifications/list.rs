//! `GET /notifications`: the living users in the order of their ids, page by page.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue},
    response::Response,
};
use futures::TryStreamExt;
use mongodb::{
    action::Action,
    bson::{Document, RawDocumentBuf, doc},
    error::ErrorKind,
    options::Hint,
};
use service_runtime::page::{Page, PageParameters};
use shared_events::UserState;

use super::{Documents, MAX_TIME, NO_CACHE, READ_DEADLINE, Reader, error::ReadError};
use crate::{
    mongo::{self, Failure},
    projection::{LIVING_INDEX, Notification, StoredUser},
};

const DAMAGED_USERS: HeaderName = HeaderName::from_static("x-damaged-users");
/// With so many on it a page ends early, so that they fit into a header.
const MAX_DAMAGED: usize = 100;

/// List the users of the copy in the order of their ids, page by page
///
/// Users whose document is damaged are left out and named in a header.
#[utoipa::path(
    get, path = "/notifications", tag = "notifications",
    params(PageParameters, ("Cache-Control" = Option<String>, Header, description = NO_CACHE)),
    responses((status = 200, description = "A page", body = Vec<Notification>,
               headers(("Link"), ("X-Damaged-Users"), ("X-Projection-Lag-Ms"))))
)]
pub(super) async fn list(
    State(reader): State<Arc<Reader>>,
    page: Page,
    headers: HeaderMap,
) -> Result<Response, ReadError> {
    let found = Found::read(reader.copy_for(&headers), page.after, page.limit).await?;
    let mut response = page.respond_up_to(&found.living, found.next);
    if let Some(ids) = found.damaged_ids() {
        let damaged = found.damaged.len();
        tracing::warn!(
            damaged,
            "a list left out damaged documents: run verify --repair"
        );
        response.headers_mut().insert(DAMAGED_USERS, ids);
    }
    Ok(response)
}

#[derive(Debug, Default)]
struct Found {
    living: Vec<Notification>,
    damaged: Vec<i64>,
    /// The id behind which the next page begins; `None` on the last.
    next: Option<i64>,
}

impl Found {
    /// Reads until the page is full or all is read: what is damaged does not end a list.
    async fn read(copy: &Documents, after: i64, limit: u16) -> Result<Self, Failure> {
        let mut found = Self::default();
        let mut after = after;
        loop {
            let missing = usize::from(limit) - found.living.len();
            let documents = read(copy, after, UserState::MAX_NUMBER, missing).await?;
            let is_last = documents.len() < missing;
            for document in documents {
                after = found.take(&document).unwrap_or(after).max(after);
            }
            if is_last {
                return Ok(found);
            }
            if found.living.len() == usize::from(limit) || found.damaged.len() >= MAX_DAMAGED {
                found.next = Some(after);
                return Ok(found);
            }
        }
    }

    /// The id that the document is listed by.
    fn take(&mut self, document: &RawDocumentBuf) -> Option<i64> {
        let listed = listed_id(document);
        match StoredUser::read(document) {
            Ok(user) => self.living.extend(user.living()),
            Err(damaged) => self.damaged.extend(damaged.user_id.or(listed)),
        }
        listed
    }

    fn damaged_ids(&self) -> Option<HeaderValue> {
        let ids: Vec<_> = self.damaged.iter().map(ToString::to_string).collect();
        let ids = (!ids.is_empty()).then(|| ids.join(","))?;
        HeaderValue::try_from(ids).ok()
    }
}

/// The id that a document is listed by.
pub(super) fn listed_id(document: &RawDocumentBuf) -> Option<i64> {
    mongo::whole_number(document, "user_id")
}

/// The next living users up to `last`, by the index that holds no others; by their primary key while
/// that index is still being made.
pub(super) async fn read(
    copy: &Documents,
    after: i64,
    last: i64,
    limit: usize,
) -> Result<Vec<RawDocumentBuf>, Failure> {
    // With the type, so that each page ends with a number to go on from.
    let ids = doc! { "$gt": after, "$lte": last, "$type": ["int", "long"] };
    let by_index = doc! { "user_id": ids.clone(), "updated_at": { "$exists": true } };
    let hint = Hint::Name(LIVING_INDEX.to_owned());
    match find(copy, by_index, doc! { "user_id": 1 }, Some(hint), limit).await {
        Err(failure) if is_unknown_index(&failure) => {
            let by_key = doc! { "_id": ids, "updated_at": { "$exists": true } };
            find(copy, by_key, doc! { "_id": 1 }, None, limit).await
        }
        outcome => outcome,
    }
}

async fn find(
    copy: &Documents,
    filter: Document,
    order: Document,
    hint: Option<Hint>,
    limit: usize,
) -> Result<Vec<RawDocumentBuf>, Failure> {
    let collection = copy.collection.clone();
    let limit = u16::try_from(limit).unwrap_or(u16::MAX);
    let finding = copy.pool.call(READ_DEADLINE, async move {
        let cursor = collection
            .find(filter)
            .sort(order)
            .optional(hint, |find, hint| find.hint(hint))
            .limit(limit.into())
            .batch_size(limit.into())
            .max_time(MAX_TIME)
            .await?;
        cursor.try_collect().await
    });
    finding.await
}

/// MongoDB has one code for a hint that names no index and other faults of a query; ours has none.
fn is_unknown_index(failure: &Failure) -> bool {
    const BAD_VALUE: i32 = 2;
    let Failure::Driver(error) = failure else {
        return false;
    };
    matches!(error.kind.as_ref(), ErrorKind::Command(error) if error.code == BAD_VALUE)
}
