//! One of the two APIs.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use reqwest::{Client, RequestBuilder, Response, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

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

/// What a side has of one user.
#[derive(Debug)]
pub(super) enum Found {
    Living(Record),
    /// With the version of the deletion, where the side tells it.
    Deleted(Option<i64>),
    Nothing,
}

impl Found {
    pub(super) fn living(&self) -> Option<&Record> {
        match self {
            Self::Living(record) => Some(record),
            Self::Deleted(_) | Self::Nothing => None,
        }
    }

    pub(super) fn version(&self) -> Option<i64> {
        self.living().map(|record| record.version)
    }

    /// The version of the last thing that is known of the user, its deletion included.
    pub(super) fn last_version(&self) -> Option<i64> {
        match self {
            Self::Living(record) => Some(record.version),
            Self::Deleted(version) => *version,
            Self::Nothing => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Side {
    client: Client,
    token: Option<SecretString>,
    base: String,
    list: &'static str,
    one: &'static str,
}

impl Side {
    pub(super) fn users(base: &str, token: Option<SecretString>) -> anyhow::Result<Self> {
        Self::new(base, token, "/users", "/users")
    }

    pub(super) fn notifications(base: &str, token: Option<SecretString>) -> anyhow::Result<Self> {
        Self::new(base, token, "/notifications", "/notifications/user")
    }

    fn new(
        base: &str,
        token: Option<SecretString>,
        list: &'static str,
        one: &'static str,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            token,
            client: Client::builder().timeout(TIMEOUT).build()?,
            base: base.trim_end_matches('/').to_owned(),
            list,
            one,
        })
    }

    pub(super) async fn find(&self, id: i64) -> anyhow::Result<Found> {
        let response = self.get(&format!("{}/{id}", self.one)).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(Found::Nothing),
            StatusCode::GONE => Ok(Found::Deleted(tagged_version(&response))),
            _ => self.read(response).await.map(Found::Living),
        }
    }

    pub(super) async fn post(&self, path: &str, body: &impl Serialize) -> anyhow::Result<()> {
        let request = self.client.post(format!("{}{path}", self.base)).json(body);
        let (status, base) = (self.send(request).await?.status(), &self.base);
        ensure!(status.is_success(), "{base}{path} answered {status}");
        Ok(())
    }

    async fn get(&self, path: &str) -> anyhow::Result<Response> {
        self.send(self.client.get(format!("{}{path}", self.base)))
            .await
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        };
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

fn tagged_version(response: &Response) -> Option<i64> {
    let tag = response.headers().get(header::ETAG)?.to_str().ok()?;
    tag.trim_matches('"').parse().ok()
}

fn next_page(response: &Response) -> Option<String> {
    let link = response.headers().get(header::LINK)?.to_str().ok()?;
    let (target, relation) = link.strip_prefix('<')?.split_once('>')?;
    relation.contains("rel=\"next\"").then(|| target.to_owned())
}
