//! Telling the notification service that its copy was found to be whole.

use anyhow::{Context, bail};
use reqwest::{StatusCode, header};
use serde_json::Value;

use super::api_client::ApiClient;

const PATH: &str = "/projection/holes";

/// The events that the copy missed when the comparison began.
pub(super) struct Holes {
    count: usize,
    tag: header::HeaderValue,
}

impl Holes {
    /// `None` if there are none, or the service is too old to tell.
    pub(super) async fn look(copies: &ApiClient) -> anyhow::Result<Option<Self>> {
        let response = copies.get(PATH).await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let tag = response.headers().get(header::ETAG).cloned();
        let holes: Vec<Value> = copies.read(response).await?;
        let tag = tag.context("the list of holes has no tag")?;
        let count = holes.len();
        Ok((count > 0).then_some(Self { count, tag }))
    }

    /// The comparison has made up for them, whatever they were.
    pub(super) async fn clear(self, copies: &ApiClient) -> anyhow::Result<()> {
        match copies.delete(PATH, self.tag).await?.status() {
            StatusCode::NO_CONTENT => Ok(()),
            StatusCode::PRECONDITION_FAILED => {
                bail!("more events were found missing: verify again")
            }
            status => bail!(
                "the services agree, but the service can't forget its {} holes: {status} (does the \
                 token have the scope repair?)",
                self.count
            ),
        }
    }
}
