//! Whether the member that is followed keeps up.
//!
//! A change stream stays with its member when another becomes primary. One that is cut off from the
//! others, or has stopped to replicate, goes on to say that there are no changes.

use std::time::Duration;

use anyhow::Context;
use mongodb::{
    Collection,
    bson::{RawDocumentBuf, Timestamp, doc},
};
use tokio::{sync::watch, time::sleep};

use super::Token;
use crate::mongo;

/// By then the member must have come to what a majority had on the primary.
const MAX_DELAY: Duration = Duration::from_secs(5);
const DEADLINE: Duration = Duration::from_secs(3);

/// Ends once the member is found to be behind. Without a primary nobody is.
pub(super) async fn fallen_behind(
    copy: &Collection<RawDocumentBuf>,
    passed: &watch::Sender<Option<Token>>,
) {
    loop {
        let written = written_by_majority(copy).await;
        sleep(MAX_DELAY).await;
        match written {
            Ok(time) if (passed.borrow().as_ref()).is_some_and(|it| it.is_before(time)) => return,
            Ok(_) => {}
            Err(error) => {
                let error = format!("{error:#}");
                tracing::debug!(error, "the primary does not say how far it is");
            }
        }
    }
}

/// How far a majority is, as the primary knows.
async fn written_by_majority(copy: &Collection<RawDocumentBuf>) -> anyhow::Result<Timestamp> {
    let admin = copy.client().database("admin");
    let hello = async move { admin.run_command(doc! { "hello": 1 }).await };
    let hello = mongo::call(DEADLINE, hello).await?;
    let last_write = hello.get_document("lastWrite").context("no replica set")?;
    let time = last_write.get_document("majorityOpTime")?;
    Ok(time.get_timestamp("ts")?)
}
