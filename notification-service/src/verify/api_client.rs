//! One of the two APIs.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, Utc};
use reqwest::{Client, RequestBuilder, Response, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use service_runtime::digests::{DigestQuery, Digests};

use crate::projection::Notification;

const TIMEOUT: Duration = Duration::from_secs(10);
const PAGE: u16 = 1_000;
/// Of one answer: more than a page of users with the longest names can have.
const MAX_BYTES: usize = 8 * 1024 * 1024;
const DAMAGED: &str = "/problems/damaged";
const DAMAGED_USERS: &str = "x-damaged-users";

/// A user, as either service has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Record {
    #[serde(alias = "user_id")]
    pub(super) id: i64,
    name: String,
    email: String,
    updated_at: DateTime<Utc>,
    pub(super) version: i64,
}

/// An entry of a service's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: i64,
    /// `None` if the service has something that it can't read.
    pub(super) record: Option<Record>,
}

/// What a service has of one user.
#[derive(Debug)]
pub(super) enum Found {
    Living(Record),
    /// Something that it can't read, with its version if that can be read.
    Damaged(Option<i64>),
    /// With the version of the deletion, where the service tells it.
    Deleted(Option<i64>),
    Nothing,
}

impl From<Notification> for Record {
    fn from(copy: Notification) -> Self {
        Self {
            id: copy.user_id,
            name: copy.name,
            email: copy.email,
            updated_at: copy.updated_at,
            version: copy.version,
        }
    }
}

impl Found {
    pub(super) fn living(&self) -> Option<&Record> {
        match self {
            Self::Living(record) => Some(record),
            Self::Damaged(_) | Self::Deleted(_) | Self::Nothing => None,
        }
    }

    pub(super) fn is_damaged(&self) -> bool {
        matches!(self, Self::Damaged(_))
    }

    pub(super) fn version(&self) -> Option<i64> {
        self.living().map(|record| record.version)
    }

    /// The version of the last thing that is known of the user, its deletion included.
    pub(super) fn last_version(&self) -> Option<i64> {
        match self {
            Self::Living(record) => Some(record.version),
            Self::Damaged(version) | Self::Deleted(version) => *version,
            Self::Nothing => None,
        }
    }
}

/// An answer with a status that does not tell what was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{asked} answered {status}")]
pub(crate) struct Refused {
    pub(crate) asked: String,
    pub(crate) status: StatusCode,
}

impl Refused {
    pub(super) fn new(asked: &str, status: StatusCode) -> Self {
        Self {
            asked: asked.to_owned(),
            status,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct ApiClient {
    client: Client,
    token: Option<SecretString>,
    base: String,
    list: &'static str,
    one: &'static str,
}

impl ApiClient {
    pub(crate) fn users(base: &str, token: Option<SecretString>) -> anyhow::Result<Self> {
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
            StatusCode::INTERNAL_SERVER_ERROR => self.read_fault(response).await,
            _ => self.read(response).await.map(Found::Living),
        }
    }

    /// `None` if this release of the service offers none.
    pub(super) async fn digests(&self, query: DigestQuery) -> anyhow::Result<Option<Digests>> {
        let DigestQuery { first, last, size } = query;
        let path = format!(
            "{}/digests?first={first}&last={last}&size={size}",
            self.list
        );
        let response = self.get(&path).await?;
        match response.status() {
            // Where there is no such route, `digests` may be taken for an id.
            StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST => Ok(None),
            _ => self.read(response).await.map(Some),
        }
    }

    pub(super) async fn post(&self, path: &str, body: &impl Serialize) -> anyhow::Result<Response> {
        let request = self.client.post(format!("{}{path}", self.base)).json(body);
        self.send(request).await
    }

    /// One kind of error tells something of the user, all others only of the service.
    async fn read_fault(&self, response: Response) -> anyhow::Result<Found> {
        #[derive(Deserialize)]
        struct Fault {
            r#type: String,
        }
        let version = tagged_version(&response);
        let fault: Fault = (read_json(response).await)
            .with_context(|| format!("{} answered with an internal error", self.base))?;
        if fault.r#type != DAMAGED {
            bail!("{} answered with {}", self.base, fault.r#type);
        }
        Ok(Found::Damaged(version))
    }

    pub(super) async fn delete(
        &self,
        path: &str,
        if_match: header::HeaderValue,
    ) -> anyhow::Result<Response> {
        let request = self.client.delete(format!("{}{path}", self.base));
        self.send(request.header(header::IF_MATCH, if_match)).await
    }

    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Response> {
        let request = self.client.get(format!("{}{path}", self.base));
        // A secondary of MongoDB that is behind would show differences that are none.
        self.send(request.header(header::CACHE_CONTROL, "no-cache"))
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

    pub(super) async fn read<T: for<'de> Deserialize<'de>>(
        &self,
        response: Response,
    ) -> anyhow::Result<T> {
        let (status, base) = (response.status(), &self.base);
        ensure!(status.is_success(), Refused::new(base, status));
        let body = read_json(response).await;
        body.with_context(|| format!("reading what {base} answered"))
    }
}

async fn read_json<T: for<'de> Deserialize<'de>>(mut response: Response) -> anyhow::Result<T> {
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await? {
        let bytes = body.len() + part.len();
        ensure!(bytes <= MAX_BYTES, "more than {MAX_BYTES} bytes");
        body.extend_from_slice(&part);
    }
    Ok(serde_json::from_slice(&body)?)
}

/// A service's list in the order of ids, a page of it in memory.
#[derive(Debug)]
pub(super) struct Pages<'a> {
    client: &'a ApiClient,
    at_hand: VecDeque<Listed>,
    next: Option<String>,
}

impl<'a> Pages<'a> {
    pub(super) fn new(client: &'a ApiClient) -> Self {
        Self {
            client,
            at_hand: VecDeque::new(),
            next: Some(format!("{}?limit={PAGE}", client.list)),
        }
    }

    /// The next that was not passed yet; `None` at the end.
    pub(super) async fn peek(&mut self) -> anyhow::Result<Option<&Listed>> {
        while self.at_hand.is_empty() {
            let Some(path) = self.next.take() else {
                return Ok(None);
            };
            let response = self.client.get(&path).await?;
            self.next = next_page(&response);
            let damaged = damaged_users(&response);
            let records: Vec<Record> = self.client.read(response).await?;
            self.at_hand = listed(records, &damaged);
        }
        Ok(self.at_hand.front())
    }

    /// Passes over the entry of this id, if it is next.
    pub(super) fn pass(&mut self, id: i64) {
        self.at_hand.pop_front_if(|record| record.id == id);
    }
}

fn listed(records: Vec<Record>, damaged: &[i64]) -> VecDeque<Listed> {
    let records = records.into_iter().map(|record| Listed {
        id: record.id,
        record: Some(record),
    });
    let damaged = damaged.iter().map(|&id| Listed { id, record: None });
    let mut listed: Vec<_> = records.chain(damaged).collect();
    listed.sort_by_key(|it| it.id);
    listed.into()
}

fn damaged_users(response: &Response) -> Vec<i64> {
    let ids = response.headers().get(DAMAGED_USERS);
    let ids = ids.and_then(|ids| ids.to_str().ok()).unwrap_or_default();
    ids.split(',').filter_map(|id| id.parse().ok()).collect()
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

#[cfg(test)]
mod tests {
    use axum::Router;
    use reqwest::StatusCode;
    use tokio::net::TcpListener;

    use super::{ApiClient, Found, MAX_BYTES, Record};

    /// Of a service that answers everything with a list of nothing, of so many bytes.
    async fn client(status: StatusCode, bytes: usize) -> ApiClient {
        let body = format!("[{}]", " ".repeat(bytes - 2));
        let routes = Router::new().fallback(move || {
            let answer = (status, body.clone());
            async move { answer }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async { axum::serve(listener, routes).await });
        ApiClient::users(&url, None).expect("a client")
    }

    async fn list(bytes: usize) -> anyhow::Result<Vec<Record>> {
        let client = client(StatusCode::OK, bytes).await;
        let response = client.get("/users").await?;
        client.read(response).await
    }

    #[tokio::test]
    async fn an_answer_that_is_too_large_is_not_read_to_its_end() {
        assert!(list(MAX_BYTES).await.is_ok_and(|users| users.is_empty()));
        let refused = list(MAX_BYTES + 1).await.expect_err("it is too large");
        assert!(format!("{refused:#}").contains("more than"), "{refused:#}");

        let client = client(StatusCode::INTERNAL_SERVER_ERROR, MAX_BYTES + 1).await;
        let found: anyhow::Result<Found> = client.find(1).await;
        let refused = found.expect_err("it is too large");
        assert!(format!("{refused:#}").contains("more than"), "{refused:#}");
    }
}
