//! A client of the outbox's feed.

use std::{collections::BTreeSet, time::Duration};

use reqwest::{Response, StatusCode};
use serde_json::Value;

use crate::support::Api;

pub(super) const STREAM: &str = "/outbox/stream";

pub(super) struct Message {
    pub(super) event: String,
    pub(super) data: Value,
}

/// What the live page does.
pub(super) struct Follower {
    pub(super) response: Response,
    pub(super) buffer: String,
    /// What was told so far.
    pub(super) written: BTreeSet<i64>,
    pub(super) published: BTreeSet<i64>,
    pub(super) status: Value,
}

impl Follower {
    /// Whatever is written from now on will be told.
    pub(super) async fn open(api: &Api) -> Self {
        let response = api.get(STREAM).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut follower = Self {
            response,
            buffer: String::new(),
            written: BTreeSet::new(),
            published: BTreeSet::new(),
            status: Value::Null,
        };
        follower
            .until("the first status", |it| !it.status.is_null())
            .await;
        follower
    }

    pub(super) async fn next(&mut self) -> Message {
        loop {
            if let Some((message, rest)) = self.buffer.split_once("\n\n") {
                let message = parse(message);
                self.buffer = rest.to_owned();
                if let Some(message) = message {
                    return message;
                }
                continue;
            }
            let chunk = self.response.chunk().await.expect("a whole body");
            let chunk = chunk.expect("the feed goes on");
            self.buffer.push_str(str::from_utf8(&chunk).expect("UTF-8"));
        }
    }

    /// The first event of each kind of message.
    pub(super) async fn first_of<const N: usize>(&mut self, kinds: [&str; N]) -> [Value; N] {
        let mut found = kinds.map(|_| Value::Null);
        let reading = async {
            while found.contains(&Value::Null) {
                let Message { event, data } = self.next().await;
                match kinds.iter().position(|it| *it == event) {
                    Some(kind) if found[kind].is_null() => {
                        found[kind] = data["events"][0].clone();
                    }
                    // The last one may come in between.
                    None if event == "status" => self.status = data,
                    _ => {}
                }
            }
        };
        let read = tokio::time::timeout(Duration::from_secs(60), reading).await;
        read.unwrap_or_else(|_| panic!("still waiting for {kinds:?}"));
        found
    }

    pub(super) async fn until(&mut self, what: &str, is_reached: impl Fn(&Self) -> bool) {
        let reading = async {
            while !is_reached(self) {
                let Message { event, data } = self.next().await;
                let ids = data["events"].as_array().into_iter().flatten();
                let ids = ids.map(|it| it["outbox_id"].as_i64().expect("an id"));
                match event.as_str() {
                    "written" => self.written.extend(ids),
                    "published" => self.published.extend(ids),
                    "status" => self.status = data,
                    other => panic!("unexpected {other}: {data}"),
                }
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(60), reading).await;
        reached.unwrap_or_else(|_| panic!("still waiting for {what}"));
    }

    pub(super) async fn written(&mut self, ids: impl IntoIterator<Item = i64>) {
        let ids: BTreeSet<_> = ids.into_iter().collect();
        let what = format!("{ids:?} written");
        self.until(&what, |it| it.written.is_superset(&ids)).await;
    }

    pub(super) async fn published(&mut self, ids: impl IntoIterator<Item = i64>) {
        let ids: BTreeSet<_> = ids.into_iter().collect();
        let what = format!("{ids:?} published");
        self.until(&what, |it| it.published.is_superset(&ids)).await;
    }

    pub(super) async fn says(&mut self, server: &str, availability: &str) {
        let what = format!("{server} {availability}");
        self.until(&what, |it| it.status[server] == availability)
            .await;
    }
}

/// `None` for what keeps the connection alive.
fn parse(message: &str) -> Option<Message> {
    let field = |name: &str| message.lines().find_map(|line| line.strip_prefix(name));
    Some(Message {
        event: field("event: ")?.to_owned(),
        data: serde_json::from_str(field("data: ")?).expect("JSON"),
    })
}
