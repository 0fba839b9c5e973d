//! A stack of its own for each test: database, stream, consumer and copy.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_nats::jetstream::{self, stream::Stream};
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use mongodb::bson::{Document, doc};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use service_runtime::nats::Topic;
use shared_events::UserEvent;
use testkit::{Service, eventually, mongodb::Database as Mongo, nats, postgres, unique};

/// The servers and names that the services of one test share.
pub(crate) struct Stack {
    pub(crate) postgres: postgres::Database,
    pub(crate) mongo: Mongo,
    pub(crate) topic: Topic,
    pub(crate) nats_url: String,
    consumer: String,
}

/// A user, as Postgres has it or as its copy has it: the two must be equal.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, sqlx::FromRow)]
pub(crate) struct User {
    #[serde(alias = "user_id")]
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) email: String,
    pub(crate) updated_at: DateTime<Utc>,
    pub(crate) version: i64,
}

impl Stack {
    pub(crate) async fn new() -> Self {
        Self::on(nats::shared_url(), Mongo::create().await).await
    }

    pub(crate) async fn on(nats_url: String, mongo: Mongo) -> Self {
        Self {
            postgres: postgres::Database::create().await,
            mongo,
            topic: Topic {
                stream: unique("USERS"),
                subject: unique("users"),
            },
            nats_url,
            consumer: unique("notifications"),
        }
    }

    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("DATABASE_URL", self.postgres.url.clone()),
            ("MONGODB_URI", self.mongo.uri.clone()),
            ("MONGODB_DATABASE", self.mongo.name.clone()),
            ("NATS_URL", self.nats_url.clone()),
            ("NATS_STREAM", self.topic.stream.clone()),
            ("NATS_SUBJECT", self.topic.subject.clone()),
            ("NATS_CONSUMER", self.consumer.clone()),
            // What a killed projector had in hand comes again soon.
            ("ACK_WAIT", "2s".to_owned()),
        ]
    }

    /// Starts a binary without waiting for anything.
    pub(crate) fn start(&self, binary: &str, arguments: &[&str]) -> Service {
        Service::start(binary, arguments, &self.environment())
    }

    pub(crate) async fn users(&self, arguments: &[&str]) -> Api {
        Api::ready(self.start("user-service", &[&["serve"], arguments].concat())).await
    }

    pub(crate) async fn notifications(&self) -> Api {
        Api::ready(self.start("notification-service", &["serve"])).await
    }

    /// The relay alone, once it is active.
    pub(crate) async fn relay(&self) -> Service {
        let relay = self.start("user-service", &["relay"]);
        is_active(&relay).await;
        relay
    }

    pub(crate) async fn jetstream(&self) -> jetstream::Context {
        let client = eventually("an answer from NATS", async || {
            async_nats::connect(&self.nats_url).await.ok()
        });
        jetstream::new(client.await)
    }

    pub(crate) async fn stream(&self) -> Stream {
        let jetstream = self.jetstream().await;
        eventually("the stream", async || {
            jetstream.get_stream(&self.topic.stream).await.ok()
        })
        .await
    }

    /// Waits until the stream has come to this sequence.
    pub(crate) async fn published(&self, sequence: u64) {
        eventually("the events on the stream", async || {
            let stream = self.stream().await;
            (stream.cached_info().state.last_sequence >= sequence).then_some(())
        })
        .await;
    }

    /// Waits until something is published that was not before. The last sequence then.
    pub(crate) async fn at_work(&self) -> u64 {
        let last = async || self.stream().await.cached_info().state.last_sequence;
        let before = last().await;
        eventually("new events on the stream", async || {
            Some(last().await).filter(|it| *it > before)
        })
        .await
    }

    pub(crate) fn consumer(&self) -> &str {
        &self.consumer
    }

    /// The events on the stream, in its order, with their ids; what is no event is left out.
    pub(crate) async fn events(&self) -> Vec<(String, UserEvent)> {
        let stream = self.stream().await;
        let state = stream.cached_info().state.clone();
        let mut events = Vec::new();
        for sequence in state.first_sequence..=state.last_sequence {
            let message = stream.get_raw_message(sequence).await.expect("a message");
            let id = message.headers.get("Nats-Msg-Id").map(ToString::to_string);
            if let Ok(event) = UserEvent::parse(&message.payload) {
                events.push((id.unwrap_or_default(), event));
            }
        }
        events
    }

    /// Publishes as anybody could, past the outbox.
    pub(crate) async fn publish(&self, body: impl Into<Vec<u8>>) {
        let subject = self.topic.subject.clone();
        let body: Vec<u8> = body.into();
        let jetstream = self.jetstream().await;
        let ack = jetstream.publish(subject, body.into()).await;
        ack.expect("a publish").await.expect("an acknowledgement");
    }

    /// The bodies that were set aside; `None` if they can't be had now.
    pub(crate) async fn dead_letters(&self) -> Option<Vec<Vec<u8>>> {
        let name = self.topic.dead_letters().stream;
        let jetstream = self.jetstream().await;
        let stream = jetstream.get_stream(name).await.ok()?;
        let mut bodies = Vec::new();
        for sequence in 1..=stream.cached_info().state.last_sequence {
            let message = stream.get_raw_message(sequence).await.ok()?;
            bodies.push(message.payload.to_vec());
        }
        Some(bodies)
    }

    pub(crate) async fn rows(&self) -> Vec<User> {
        sqlx::query_as("select id, name, email, updated_at, version from users order by id")
            .fetch_all(&self.postgres.pool)
            .await
            .expect("the users")
    }

    /// The live documents of the copy, read from MongoDB itself.
    pub(crate) async fn copies(&self) -> Option<Vec<User>> {
        let collection = self.mongo.collection("user_notifications");
        let live = doc! { "deleted_at": { "$exists": false } };
        let found = collection.find(live).sort(doc! { "_id": 1 }).await.ok()?;
        let documents: Vec<Document> = found.try_collect().await.ok()?;
        Some(documents.iter().map(user).collect())
    }

    /// Waits until the copy equals the users, field by field, with nothing left to publish.
    pub(crate) async fn converged(&self) -> Vec<User> {
        eventually("the copy to equal the users", async || {
            if self.pending().await != 0 {
                return None;
            }
            let rows = self.rows().await;
            (self.copies().await? == rows).then_some(rows)
        })
        .await
    }

    /// Waits until nothing is left to publish, however long it takes, as long as it goes on.
    pub(crate) async fn drained(&self) {
        let mut left = i64::MAX;
        while left > 0 {
            left = eventually("fewer events to be left", async || {
                Some(self.pending().await).filter(|it| *it < left)
            })
            .await;
        }
    }

    /// Events that the cursor has not passed.
    pub(crate) async fn pending(&self) -> i64 {
        sqlx::query_scalar("select count(*) from outbox.pending")
            .fetch_one(&self.postgres.pool)
            .await
            .expect("a count")
    }

    /// Changes of the relay's lease so far.
    pub(crate) async fn epoch(&self) -> i64 {
        sqlx::query_scalar("select epoch from outbox.lease")
            .fetch_one(&self.postgres.pool)
            .await
            .expect("the lease")
    }

    /// Waits until the consumer has acknowledged everything up to this sequence of the stream.
    pub(crate) async fn acknowledged(&self, sequence: u64) {
        eventually("the acknowledgements", async || {
            let info = self
                .stream()
                .await
                .consumer_info(self.consumer())
                .await
                .ok()?;
            (info.ack_floor.stream_sequence >= sequence).then_some(())
        })
        .await;
    }
}

/// Sends again what was answered with 503, as when no connection or lock was free in time.
async fn unless_busy(request: RequestBuilder) -> Response {
    eventually("another answer than 503", async || {
        let request = request.try_clone().expect("a body in memory");
        let response = request.send().await.expect("an answer");
        (response.status() != StatusCode::SERVICE_UNAVAILABLE).then_some(response)
    })
    .await
}

fn user(document: &Document) -> User {
    let updated_at = document.get_datetime("updated_at").expect("a date");
    User {
        id: document.get_i64("user_id").expect("an id"),
        name: document.get_str("name").expect("a name").to_owned(),
        email: document.get_str("email").expect("an address").to_owned(),
        updated_at: DateTime::from_timestamp_millis(updated_at.timestamp_millis())
            .expect("a date of this era"),
        version: document.get_i64("version").expect("a version"),
    }
}

pub(crate) async fn is_active(relay: &Service) {
    eventually("an active relay", async || {
        let output = relay.process.output();
        output
            .iter()
            .any(|line| line.contains("stream is up to date"))
            .then_some(())
    })
    .await;
}

/// Fails unless each user's events, each at its first appearance, are in the order of versions.
pub(crate) fn assert_in_order(events: &[(String, UserEvent)]) {
    let mut seen = std::collections::BTreeSet::new();
    let mut versions = BTreeMap::new();
    for (id, event) in events {
        if seen.insert(id) {
            let state = event.state();
            let before = versions.insert(state.id, state.version).unwrap_or(0);
            let (now, user) = (state.version, state.id);
            assert!(
                now > before,
                "version {now} of user {user} comes after {before}"
            );
        }
    }
}

/// One of the two APIs.
pub(crate) struct Api {
    pub(crate) service: Service,
    pub(crate) url: String,
    pub(crate) client: Client,
}

impl Api {
    /// Waits until the service can do its work.
    pub(crate) async fn ready(service: Service) -> Self {
        Self::ready_but_for(service, "").await
    }

    /// Waits until the service can do its work, whatever this check says.
    pub(crate) async fn ready_but_for(service: Service, check: &str) -> Self {
        let api = Self {
            url: service.url().await,
            client: Client::builder()
                .timeout(Duration::from_secs(30))
                .build()
                .expect("a client"),
            service,
        };
        let url = format!("{}/readyz?exclude={check}", api.url);
        eventually("a service that is ready", async || {
            let answer = api.client.get(&url).send().await;
            (answer.ok()?.status() == StatusCode::OK).then_some(())
        })
        .await;
        api
    }

    pub(crate) async fn create(&self, name: &str) -> User {
        let body = json!({ "name": name, "email": format!("{}@example.com", unique("u")) });
        let request = self.client.post(format!("{}/users", self.url));
        let response = unless_busy(request.json(&body)).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        response.json().await.expect("a user")
    }

    pub(crate) async fn rename(&self, user: &User, name: &str) -> User {
        let body = json!({ "name": name, "email": user.email });
        let request = self.client.put(format!("{}/users/{}", self.url, user.id));
        let response = unless_busy(request.json(&body)).await;
        assert_eq!(response.status(), StatusCode::OK);
        response.json().await.expect("a user")
    }

    pub(crate) async fn delete(&self, user: &User) {
        let request = self
            .client
            .delete(format!("{}/users/{}", self.url, user.id));
        let response = unless_busy(request).await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
    }

    /// Creates, changes and deletes users, one after the other.
    pub(crate) async fn write_until(&self, is_over: &AtomicBool) {
        let mut number = 0;
        while !is_over.load(Ordering::Relaxed) {
            let user = self.create(&format!("Ada {number}")).await;
            self.rename(&user, &format!("Ada L. {number}")).await;
            if number % 3 == 0 {
                self.delete(&user).await;
            }
            number += 1;
        }
    }

    /// What the notification service answers for a user; `None` if it has none.
    pub(crate) async fn copy_of(&self, id: i64) -> Option<User> {
        let request = self
            .client
            .get(format!("{}/notifications/user/{id}", self.url));
        let response = request.send().await.ok()?;
        if response.status() != StatusCode::OK {
            return None;
        }
        response.json().await.ok()
    }

    pub(crate) async fn list(&self) -> Vec<Value> {
        let request = self.client.get(format!("{}/notifications", self.url));
        let response = request.send().await.expect("an answer");
        response.json().await.expect("a list")
    }
}

/// An event as the relay would publish it. It is of now: MongoDB removes tombstones that are older
/// than `TOMBSTONE_TTL`.
pub(crate) fn event(r#type: &str, id: i64, version: i64) -> Vec<u8> {
    let event = json!({ "type": r#type, "payload": {
        "id": id, "name": format!("version {version}"), "email": "ada@example.com",
        "updated_at": Utc::now(), "version": version,
    }});
    event.to_string().into_bytes()
}
