//! An audit log of its own for each test: its own stream, consumer, database and port.

use std::collections::HashSet;

use async_nats::{
    HeaderMap,
    jetstream::{self, context::PublishAckFuture, stream::Stream},
};
use futures::future::join_all;
use serde_json::{Value, json};
use service_runtime::nats::Topic;
use testkit::{Process, Service, eventually, nats, postgres::Database, unique};
use uuid::Uuid;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_audit-log");

pub(crate) struct World {
    pub(crate) nats_url: String,
    pub(crate) jetstream: jetstream::Context,
    pub(crate) topic: Topic,
    pub(crate) consumer: String,
    pub(crate) database: Database,
}

/// An event as the relay publishes it.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) id: Uuid,
    pub(crate) body: Vec<u8>,
}

impl Event {
    pub(crate) fn new(user_id: i64, version: i64) -> Self {
        let payload = json!({
            "id": user_id,
            "name": "Ada",
            "email": format!("ada-{user_id}@example.com"),
            "updated_at": "2026-01-02T03:04:05.678Z",
            "version": version,
        });
        let event = json!({ "type": "user_updated", "payload": payload });
        Self {
            id: Uuid::now_v7(),
            body: event.to_string().into_bytes(),
        }
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        let nats_url = nats::shared_url();
        let client = async_nats::connect(&nats_url).await;
        Self {
            nats_url,
            jetstream: jetstream::new(client.expect("the NATS server")),
            topic: Topic {
                stream: unique("USERS"),
                subject: unique("users"),
            },
            consumer: unique("audit"),
            database: Database::create().await,
        }
    }

    /// For any service that reads the same stream.
    pub(crate) fn stream_settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("NATS_URL", self.nats_url.clone()),
            ("NATS_STREAM", self.topic.stream.clone()),
            ("NATS_SUBJECT", self.topic.subject.clone()),
        ]
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let own = [
            ("NATS_CONSUMER", self.consumer.clone()),
            ("DATABASE_URL", self.database.url.clone()),
            // What was delivered to a process that was killed comes again soon.
            ("ACK_WAIT", "1s".to_owned()),
        ];
        [self.stream_settings(), own.to_vec()].concat()
    }

    /// Starts an instance and waits until it is ready.
    pub(crate) async fn serve(&self) -> Service {
        self.serve_with(&[]).await
    }

    /// With other settings, the last of each name counts.
    pub(crate) async fn serve_with(&self, more: &[(&'static str, String)]) -> Service {
        let service = self.start(more);
        ready(&service).await;
        service
    }

    /// Starts an instance without waiting for anything.
    pub(crate) fn start(&self, more: &[(&'static str, String)]) -> Service {
        let settings = [self.settings(), more.to_vec()].concat();
        Service::start("audit-log", &["serve"], &settings)
    }

    /// Runs a command to its end; whether it went well, and what it printed.
    pub(crate) async fn run(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Process::spawn(PROGRAM, arguments, &self.settings());
        let status = command.ended().await;
        (status.success(), command.output().join("\n"))
    }

    pub(crate) async fn publish(&self, event: &Event) {
        self.publish_all(std::slice::from_ref(event)).await;
    }

    pub(crate) async fn publish_all(&self, events: &[Event]) {
        self.publish_as("Nats-Msg-Id", events).await;
    }

    /// The same events as messages of their own, which `JetStream` does not take for repeats.
    pub(crate) async fn publish_again(&self, events: &[Event]) {
        self.publish_as("Replay-Of", events).await;
    }

    /// Publishes in order, and waits for all acknowledgements together.
    async fn publish_as(&self, id: &'static str, events: &[Event]) {
        let mut stored = Vec::new();
        for event in events {
            let mut headers = HeaderMap::new();
            headers.insert(id, event.id.to_string());
            stored.push(self.send(headers, &event.body).await);
        }
        for stored in join_all(stored.into_iter().map(IntoFuture::into_future)).await {
            stored.expect("stored");
        }
    }

    pub(crate) async fn send(&self, headers: HeaderMap, body: &[u8]) -> PublishAckFuture {
        let (subject, body) = (self.topic.subject.clone(), body.to_vec().into());
        let publish = self.jetstream.publish_with_headers(subject, headers, body);
        publish.await.expect("sent")
    }

    pub(crate) async fn stream(&self) -> Stream {
        let stream = self.jetstream.get_stream(&self.topic.stream);
        stream.await.expect("the stream")
    }

    /// The ids of the events that have an entry, each as often as it has.
    pub(crate) async fn recorded(&self) -> Vec<Uuid> {
        let ids = sqlx::query_scalar("select event_id from audit_entry order by id");
        ids.fetch_all(&self.database.pool).await.expect("ids")
    }

    /// Waits until so many entries are there, and fails if an event has two.
    pub(crate) async fn recorded_once(&self, events: usize) {
        let recorded = eventually("every event to be recorded", async || {
            let recorded = self.recorded().await;
            (recorded.len() >= events).then_some(recorded)
        })
        .await;
        self.settled().await;
        let distinct: HashSet<_> = recorded.iter().collect();
        assert_eq!(
            (self.recorded().await.len(), distinct.len()),
            (events, events)
        );
    }

    /// Waits until the consumer has nothing to deliver and nothing unacknowledged.
    pub(crate) async fn settled(&self) {
        let stream = self.stream().await;
        let last = stream.cached_info().state.last_sequence;
        eventually("every event to be settled", async || {
            let consumer = stream.consumer_info(&self.consumer).await.ok()?;
            let has_all = consumer.delivered.stream_sequence >= last || consumer.num_pending == 0;
            (has_all && consumer.num_ack_pending == 0).then_some(())
        })
        .await;
    }

    pub(crate) async fn execute(&self, sql: &'static str) {
        let executed = sqlx::raw_sql(sql).execute(&self.database.pool).await;
        executed.expect("valid SQL");
    }
}

pub(crate) async fn ready(service: &Service) {
    eventually("a service that is ready", async || {
        is_ready(service).await.then_some(())
    })
    .await;
}

pub(crate) async fn is_ready(service: &Service) -> bool {
    let response = reqwest::get(format!("{}/readyz", service.url().await)).await;
    response.expect("an answer").status().is_success()
}

/// What `/readyz` says of each check.
pub(crate) async fn checks(service: &Service) -> Value {
    let response = reqwest::get(format!("{}/readyz", service.url().await)).await;
    let body: Value = response.expect("an answer").json().await.expect("JSON");
    body["checks"].clone()
}
