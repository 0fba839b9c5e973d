//! One of the two APIs.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use reqwest::{Client, Response, StatusCode, header};
use serde::Deserialize;

const TIMEOUT: Duration = Duration::from_secs(10);
const PAGE: u16 = 1_000;

/// A user, as either side has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Record {
    #[serde(alias = "user_id")]
    pub(super) id: i64,
    name: String,
    email: String,
    updated_at: DateTime<Utc>,
    pub(super) version: i64,
}

#[derive(Debug)]
pub(super) struct Side {
    client: Client,
    base: String,
    list: &'static str,
    one: &'static str,
}

impl Side {
    pub(super) fn users(base: &str) -> anyhow::Result<Self> {
        Self::new(base, "/users", "/users")
    }

    pub(super) fn notifications(base: &str) -> anyhow::Result<Self> {
        Self::new(base, "/notifications", "/notifications/user")
    }

    fn new(base: &str, list: &'static str, one: &'static str) -> anyhow::Result<Self> {
        Ok(Self {
            client: Client::builder().timeout(TIMEOUT).build()?,
            base: base.trim_end_matches('/').to_owned(),
            list,
            one,
        })
    }

    /// `None` if there is none, or no longer.
    pub(super) async fn find(&self, id: i64) -> anyhow::Result<Option<Record>> {
        let response = self.get(&format!("{}/{id}", self.one)).await?;
        if matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::GONE) {
            return Ok(None);
        }
        self.read(response).await.map(Some)
    }

    async fn get(&self, path: &str) -> anyhow::Result<Response> {
        let request = self.client.get(format!("{}{path}", self.base));
        let response = request.send().await;
        response.with_context(|| format!("asking {}", self.base))
    }

    async fn read<T: for<'de> Deserialize<'de>>(&self, response: Response) -> anyhow::Result<T> {
        let (status, base) = (response.status(), &self.base);
        ensure!(status.is_success(), "{base} answered {status}");
        let body = response.json().await;
        body.with_context(|| format!("reading what {base} answered"))
    }
}

/// A side's list in the order of ids, a page of it in memory.
#[derive(Debug)]
pub(super) struct Pages<'a> {
    side: &'a Side,
    at_hand: VecDeque<Record>,
    next: Option<String>,
}

impl<'a> Pages<'a> {
    pub(super) fn new(side: &'a Side) -> Self {
        Self {
            side,
            at_hand: VecDeque::new(),
            next: Some(format!("{}?limit={PAGE}", side.list)),
        }
    }

    /// The next that was not passed yet; `None` at the end.
    pub(super) async fn peek(&mut self) -> anyhow::Result<Option<&Record>> {
        while self.at_hand.is_empty() {
            let Some(path) = self.next.take() else {
                return Ok(None);
            };
            let response = self.side.get(&path).await?;
            self.next = next_page(&response);
            self.at_hand = self.side.read(response).await?;
        }
        Ok(self.at_hand.front())
    }

    /// Passes over the record of this id, if it is next.
    pub(super) fn pass(&mut self, id: i64) {
        self.at_hand.pop_front_if(|record| record.id == id);
    }
}

fn next_page(response: &Response) -> Option<String> {
    let link = response.headers().get(header::LINK)?.to_str().ok()?;
    let (target, relation) = link.strip_prefix('<')?.split_once('>')?;
    relation.contains("rel=\"next\"").then(|| target.to_owned())
}
