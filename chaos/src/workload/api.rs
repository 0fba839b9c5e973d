//! One request, and what its answer says for certain.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, header::HeaderMap};
use serde_json::Value;

use crate::endpoints::Endpoints;

/// Nobody waits longer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
pub(super) struct Api {
    http: Client,
    users: Vec<String>,
    notifications: Vec<String>,
}

#[derive(Debug)]
pub(super) enum Reply {
    Done(Answer),
    /// Nothing was done.
    Refused(Answer),
    /// It may have been done, or is done later.
    Unknown,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// Null if it is no JSON.
    pub(super) body: Value,
}

/// A body whose end may be missing.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) status: u16,
    pub(super) text: String,
}

impl Api {
    pub(super) fn new(endpoints: &Endpoints) -> anyhow::Result<Self> {
        let http = Client::builder()
            .timeout(ANSWER_DEADLINE)
            .connect_timeout(CONNECT_DEADLINE)
            // A request that may have arrived is not sent again behind our back.
            .retry(reqwest::retry::never())
            .build()?;
        Ok(Self {
            http,
            users: endpoints.users.clone(),
            notifications: endpoints.notifications.clone(),
        })
    }

    pub(super) fn users(
        &self,
        random: &mut fastrand::Rng,
        method: Method,
        path: &str,
    ) -> RequestBuilder {
        let service = &self.users[random.usize(..self.users.len())];
        self.http.request(method, format!("{service}{path}"))
    }

    pub(super) fn notifications(&self, random: &mut fastrand::Rng, path: &str) -> RequestBuilder {
        let service = &self.notifications[random.usize(..self.notifications.len())];
        self.http.get(format!("{service}{path}"))
    }
}

pub(super) async fn send(request: RequestBuilder) -> Reply {
    let Ok(response) = request.send().await else {
        return Reply::Unknown;
    };
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    // Without its body an answer does not say which version it acknowledges.
    let Ok(body) = response.bytes().await else {
        return Reply::Unknown;
    };
    let answer = Answer {
        status,
        headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    answer.into_reply()
}

/// What arrived of the body before the connection was lost, if there was an answer at all.
pub(super) async fn send_for_lines(request: RequestBuilder) -> Option<Lines> {
    let mut response = request.send().await.ok()?;
    let status = response.status().as_u16();
    let mut bytes = Vec::new();
    while let Ok(Some(part)) = response.chunk().await {
        bytes.extend_from_slice(&part);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Some(Lines { status, text })
}

impl Answer {
    pub(super) fn into_reply(self) -> Reply {
        match self.status {
            200..=299 => Reply::Done(self),
            400..=499 if !self.is_problem("request-in-progress") => Reply::Refused(self),
            // Only this one says that nothing was done.
            503 if self.is_problem("overloaded") => Reply::Refused(self),
            _ => Reply::Unknown,
        }
    }

    pub(super) fn is_problem(&self, slug: &str) -> bool {
        self.body["type"] == format!("/problems/{slug}")
    }

    pub(super) fn version(&self) -> Option<i64> {
        self.body["version"].as_i64()
    }

    /// Of the `ETag`.
    pub(super) fn tag(&self) -> Option<i64> {
        let tag = self.headers.get("etag")?.to_str().ok()?;
        tag.trim_matches('"').parse().ok()
    }
}

/// Whether what was asked for is the reason, and not how the request arrived: in part, slowly, or too many.
pub(super) fn is_about_users(status: u16) -> bool {
    !matches!(status, 400 | 408 | 429 | 503)
}
