//! A service of its own for each test: its own stream, consumer, database and port.

use std::{
    net::{IpAddr, SocketAddr},
    process::Stdio,
    time::Duration,
};

use async_nats::{
    HeaderMap,
    jetstream::{self, stream::Stream},
};
use chrono::Utc;
use futures::future::join_all;
use mongodb::{
    Collection,
    bson::{Document, doc},
};
use notification_service::{
    app::App,
    config::{
        MongoConfig, NatsConfig, ProjectorConfig, ReaderLimits, ServeConfig, VerificationSettings,
    },
};
use serde_json::{Value, json};
use service_runtime::{
    http::HttpSettings,
    metrics::MetricsSettings,
    nats::{NatsSettings, Topic, stream::StreamMetadata},
    progress::StallTimeout,
    settings::{ListenSettings, ProcessSettings},
    telemetry::TraceSettings,
};
use shared_events::UserEvent;
use testkit::{eventually, mongodb::Database, nats, unique};
use tokio::{process::Command, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

const COLLECTION: &str = "user_notifications";
const COMMAND_DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) nats_url: String,
    pub(crate) jetstream: jetstream::Context,
    pub(crate) topic: Topic,
    pub(crate) consumer: String,
    pub(crate) database: Database,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with_nats(nats::shared_url()).await
    }

    pub(crate) async fn with_nats(nats_url: String) -> Self {
        let client = async_nats::connect(&nats_url).await;
        let mut jetstream = jetstream::new(client.expect("the NATS server"));
        // For all that is published at once.
        jetstream.set_timeout(COMMAND_DEADLINE);
        Self {
            nats_url,
            jetstream,
            topic: Topic {
                stream: unique("USERS"),
                subject: unique("users"),
            },
            consumer: unique("projector"),
            database: Database::create().await,
        }
    }

    /// For another service, which reads the same stream into a copy of its own.
    pub(crate) async fn with_another_consumer(&self) -> Self {
        Self {
            nats_url: self.nats_url.clone(),
            jetstream: self.jetstream.clone(),
            topic: self.topic.clone(),
            consumer: unique("another"),
            database: Database::create().await,
        }
    }

    pub(crate) fn config(&self) -> ServeConfig {
        ServeConfig {
            http: HttpSettings::default(),
            limits: ReaderLimits {
                max_followers: 256,
                max_followers_per_client: 256,
                max_waiting_reads: 1024,
                max_waiting_reads_per_client: 256,
            },
            listen: ListenSettings {
                listen_addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            },
            mongo: MongoConfig {
                mongodb_uri: self.database.uri.parse().expect("a URI"),
                mongodb_database: self.database.name.clone(),
                mongodb_collection: COLLECTION.to_owned(),
                tombstone_ttl: Duration::from_hours(24 * 30),
            },
            projector: ProjectorConfig {
                nats: NatsConfig {
                    connection: NatsSettings::open(self.nats_url.parse().expect("a URL")),
                    stream: self.topic.stream.clone(),
                    subject: self.topic.subject.clone(),
                    consumer: self.consumer.parse().expect("a name"),
                },
                ack_wait: Duration::from_secs(30),
            },
            max_lag: None,
            verification: VerificationSettings {
                verify_users: None,
                verify_every: Duration::from_secs(1),
                verify_settle: Duration::ZERO,
                verify_rate: 100_000,
                verify_repair: false,
                verify_users_token: None,
            },
            metrics: MetricsSettings::default(),
            process: ProcessSettings {
                drain_timeout: Duration::from_secs(40),
                stall_timeout: StallTimeout::OFF,
                traces: TraceSettings::default(),
            },
        }
    }

    /// Starts a service and waits until it is ready.
    pub(crate) async fn serve(&self) -> Service {
        self.serve_with(self.config()).await
    }

    pub(crate) async fn serve_with(&self, config: ServeConfig) -> Service {
        let service = Service::start(config).await;
        eventually("a service that is ready", async || {
            let ready = service.get("/readyz").await.status().is_success();
            ready.then_some(())
        })
        .await;
        service
    }

    pub(crate) async fn publish(&self, event: &UserEvent) {
        self.publish_all([event]).await;
    }

    /// Publishes in order, as written now, and waits for all acknowledgements together.
    pub(crate) async fn publish_all(&self, events: impl IntoIterator<Item = &UserEvent>) {
        let mut stored = Vec::new();
        let mut headers = HeaderMap::new();
        headers.insert("ce-time", Utc::now().to_rfc3339());
        for event in events {
            let body = serde_json::to_vec(event).expect("an event is JSON");
            let subject = self.topic.subject.clone();
            let publish =
                self.jetstream
                    .publish_with_headers(subject, headers.clone(), body.into());
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

    /// For a process of its own that serves.
    pub(crate) fn environment(&self) -> [(&'static str, String); 6] {
        [
            ("MONGODB_URI", self.database.uri.clone()),
            ("MONGODB_DATABASE", self.database.name.clone()),
            ("NATS_URL", self.nats_url.clone()),
            ("NATS_STREAM", self.topic.stream.clone()),
            ("NATS_SUBJECT", self.topic.subject.clone()),
            ("NATS_CONSUMER", self.consumer.clone()),
        ]
    }

    /// Runs the binary to its end; whether it went well, and what it printed.
    pub(crate) async fn run(&self, arguments: &[&str]) -> (bool, String) {
        let command = Command::new(env!("CARGO_BIN_EXE_notification-service"))
            .args(arguments)
            .envs(self.environment())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let ended = timeout(COMMAND_DEADLINE, command).await;
        let output = ended.expect("an end in time").expect("started");
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8(printed).expect("UTF-8");
        (output.status.success(), printed)
    }

    /// Says that the stream holds every user from this sequence on, as the relay would.
    pub(crate) async fn complete_from(&self, sequence: u64) {
        let info = self.stream().await.cached_info().clone();
        let mut metadata = StreamMetadata::of(&info);
        metadata.complete_from = Some(sequence);
        let config = metadata.config(&info).expect("something new");
        let updated = self.jetstream.update_stream(config).await;
        updated.expect("an update");
    }

    pub(crate) async fn stream(&self) -> Stream {
        let stream = self.jetstream.get_stream(&self.topic.stream);
        stream.await.expect("the stream")
    }

    pub(crate) async fn dead_letters(&self) -> Stream {
        let stream = self.jetstream.get_stream(self.topic.dead_letters().stream);
        stream.await.expect("the dead-letter stream")
    }

    pub(crate) async fn dead_letter_count(&self) -> u64 {
        self.dead_letters().await.cached_info().state.messages
    }

    /// Waits until every message on the stream that is for this consumer has been dealt with.
    pub(crate) async fn settled(&self) {
        eventually("every message to be settled", async || {
            let stream = self.jetstream.get_stream(&self.topic.stream).await.ok()?;
            let last = self.last_message().await;
            let consumer = stream.consumer_info(&self.consumer).await.ok()?;
            let has_passed = consumer.ack_floor.stream_sequence >= last;
            let is_idle = consumer.num_pending == 0 && consumer.num_ack_pending == 0;
            (has_passed && is_idle).then_some(())
        })
        .await;
    }

    /// The sequence of the last message for this consumer, whatever its headers; 0 without one.
    async fn last_message(&self) -> u64 {
        let request = format!("STREAM.MSG.GET.{}", self.topic.stream);
        let subject = &self.topic.subject;
        let mut last = 0;
        for subject in [subject, &format!("replay.{subject}.{}", self.consumer)] {
            let by_subject = json!({ "last_by_subj": subject });
            let answer: Result<Value, _> =
                self.jetstream.request(request.clone(), &by_subject).await;
            let answer = answer.expect("an answer");
            last = last.max(answer["message"]["seq"].as_u64().unwrap_or_default());
        }
        last
    }

    pub(crate) fn collection(&self) -> Collection<Document> {
        self.database.collection(COLLECTION)
    }

    pub(crate) async fn document(&self, id: i64) -> Option<Document> {
        let collection = self.collection();
        let found = collection.find_one(doc! { "_id": id });
        found.await.expect("a read")
    }

    pub(crate) async fn version(&self, id: i64) -> Option<i64> {
        let document = self.document(id).await?;
        Some(document.get_i64("version").expect("a version"))
    }

    pub(crate) async fn count(&self, filter: Document) -> u64 {
        let collection = self.collection();
        collection.count_documents(filter).await.expect("a count")
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

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        let response = reqwest::get(format!("http://{}{path}", self.address));
        response.await.expect("a response")
    }

    /// Asks until it is answered with 200: it says 503 while MongoDB is too slow.
    pub(crate) async fn answered(&self, path: &str) -> reqwest::Response {
        eventually(path, async || {
            let response = self.get(path).await;
            (response.status() == 200).then_some(response)
        })
        .await
    }

    /// Each check has less than a second.
    pub(crate) async fn ready(&self) {
        eventually("a service that is ready", async || {
            (self.get("/readyz").await.status() == 200).then_some(())
        })
        .await;
    }

    pub(crate) async fn get_with(
        &self,
        path: &str,
        header: &str,
        value: &str,
    ) -> reqwest::Response {
        let client = reqwest::Client::new();
        let request = client.get(format!("http://{}{path}", self.address));
        request
            .header(header, value)
            .send()
            .await
            .expect("a response")
    }

    /// As a client whose address is 127.0.0.`host`.
    pub(crate) async fn get_from(&self, host: u8, path: &str) -> reqwest::Response {
        let address = IpAddr::from([127, 0, 0, host]);
        let client = reqwest::Client::builder().local_address(address).build();
        let request = client
            .expect("a client")
            .get(format!("{}{path}", self.url()));
        request.send().await.expect("a response")
    }

    pub(crate) async fn post(&self, path: &str) -> reqwest::Response {
        let request = reqwest::Client::new().post(format!("http://{}{path}", self.address));
        request.send().await.expect("a response")
    }

    pub(crate) fn shutdown(&self) {
        self.shutdown.cancel();
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        let ended = self.running.await.expect("no panic");
        ended.expect("an orderly stop");
    }
}
