//! A service of its own for each test: its own stream, consumer, database and port.

use std::{net::SocketAddr, time::Duration};

use async_nats::{
    HeaderMap,
    jetstream::{self, stream::Stream},
};
use futures::future::join_all;
use mongodb::{
    Collection, Database,
    bson::{Document, doc},
};
use notification_service::{
    app::App,
    config::{ListenConfig, MongoConfig, ProjectorConfig, ServeConfig},
};
use shared_events::{Topic, UserEvent};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) struct Scene {
    pub(crate) jetstream: jetstream::Context,
    pub(crate) topic: Topic,
    pub(crate) consumer: String,
    pub(crate) database: Database,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let name = format!("it_{}", Uuid::now_v7().simple());
        let nats = async_nats::connect(server("TEST_NATS_URL")).await;
        let mongo = mongodb::Client::with_uri_str(server("TEST_MONGODB_URI")).await;
        Self {
            jetstream: jetstream::new(nats.expect("the NATS server")),
            topic: Topic {
                stream: name.clone(),
                subject: format!("it.{name}"),
            },
            consumer: name.clone(),
            database: mongo.expect("the MongoDB server").database(&name),
        }
    }

    pub(crate) fn config(&self) -> ServeConfig {
        let url = |variable| server(variable).parse().expect("a URL");
        ServeConfig {
            listen: ListenConfig {
                listen_addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            },
            mongo: MongoConfig {
                mongodb_uri: url("TEST_MONGODB_URI"),
                mongodb_database: self.database.name().to_owned(),
                mongodb_collection: "user_notifications".to_owned(),
                tombstone_ttl: Duration::from_hours(24 * 30),
            },
            projector: ProjectorConfig {
                nats_url: url("TEST_NATS_URL"),
                stream: self.topic.stream.clone(),
                subject: self.topic.subject.clone(),
                consumer: self.consumer.clone(),
            },
            drain_timeout: Duration::from_secs(10),
        }
    }

    /// Starts a service and waits until it is ready.
    pub(crate) async fn serve(&self) -> Service {
        let service = Service::start(self.config()).await;
        eventually("the service is ready", async || {
            service
                .get("/readyz")
                .await
                .status()
                .is_success()
                .then_some(())
        })
        .await;
        service
    }

    pub(crate) async fn publish(&self, event: &UserEvent) {
        self.publish_all([event]).await;
    }

    /// Publishes in order, and waits for all acknowledgements together.
    pub(crate) async fn publish_all(&self, events: impl IntoIterator<Item = &UserEvent>) {
        let mut stored = Vec::new();
        for event in events {
            let body = serde_json::to_vec(event).expect("an event is JSON");
            let publish = self
                .jetstream
                .publish(self.topic.subject.clone(), body.into());
            stored.push(publish.await.expect("sent").into_future());
        }
        for stored in join_all(stored).await {
            stored.expect("stored");
        }
    }

    pub(crate) async fn publish_raw(&self, headers: HeaderMap, body: &[u8]) {
        let (subject, body) = (self.topic.subject.clone(), body.to_vec().into());
        let publish = self.jetstream.publish_with_headers(subject, headers, body);
        publish.await.expect("sent").await.expect("stored");
    }

    pub(crate) async fn stream(&self) -> Stream {
        let stream = self.jetstream.get_stream(&self.topic.stream);
        stream.await.expect("the stream")
    }

    pub(crate) async fn dead_letters(&self) -> Stream {
        let stream = self.jetstream.get_stream(self.topic.dead_letters().stream);
        stream.await.expect("the dead-letter stream")
    }

    /// Waits until every message on the stream has been dealt with.
    pub(crate) async fn settled(&self) {
        eventually("every message is settled", async || {
            let stream = self.jetstream.get_stream(&self.topic.stream).await.ok()?;
            let consumer = stream.consumer_info(&self.consumer).await.ok()?;
            let last = stream.get_info().await.ok()?.state.last_sequence;
            (consumer.ack_floor.stream_sequence == last && consumer.num_ack_pending == 0)
                .then_some(())
        })
        .await;
    }

    pub(crate) fn collection(&self) -> Collection<Document> {
        self.database.collection("user_notifications")
    }

    pub(crate) async fn document(&self, id: i64) -> Option<Document> {
        let collection = self.collection();
        let found = collection.find_one(doc! { "_id": id });
        found.await.expect("a read")
    }

    pub(crate) async fn count(&self, filter: Document) -> u64 {
        let collection = self.collection();
        collection.count_documents(filter).await.expect("a count")
    }

    /// Leaves the servers as they were. A test that fails leaves its traces for whoever looks.
    pub(crate) async fn clear(self) {
        self.database.drop().await.expect("the database is dropped");
        for stream in [&self.topic.stream, &self.topic.dead_letters().stream] {
            let deleted = self.jetstream.delete_stream(stream).await;
            deleted.expect("the stream is deleted");
        }
    }
}

pub(crate) struct Service {
    address: SocketAddr,
    shutdown: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Service {
    pub(crate) async fn start(config: ServeConfig) -> Self {
        let app = App::build(config).await.expect("the service starts");
        Self {
            address: app.address().expect("an address"),
            shutdown: app.shutdown(),
            running: tokio::spawn(app.run()),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        let response = reqwest::get(format!("http://{}{path}", self.address));
        response.await.expect("a response")
    }

    pub(crate) async fn post(&self, path: &str) -> reqwest::Response {
        let request = reqwest::Client::new().post(format!("http://{}{path}", self.address));
        request.send().await.expect("a response")
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        let ended = self.running.await.expect("no panic");
        ended.expect("an orderly stop");
    }
}

/// Tries until there is something, for at most 30 seconds.
pub(crate) async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let trying = async {
        loop {
            if let Some(value) = attempt().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let tried = tokio::time::timeout(Duration::from_secs(30), trying).await;
    tried.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

fn server(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} names no server"))
}
