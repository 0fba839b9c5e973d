//! A user service of its own for each test: its own database, stream and port.

use std::collections::BTreeMap;

use async_nats::jetstream::{self, stream::Stream};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use service_runtime::nats::{Topic, headers};
use shared_events::UserEvent;
use testkit::{Proxy, Service, eventually, nats, postgres::Database, unique};

pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) nats_url: String,
    pub(crate) topic: Topic,
    /// Further ones, which go before the others.
    pub(crate) settings: Vec<(&'static str, String)>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with_nats(nats::shared_url()).await
    }

    pub(crate) async fn with_nats(nats_url: String) -> Self {
        Self {
            database: Database::create().await,
            nats_url,
            topic: Topic {
                stream: unique("USERS"),
                subject: unique("users"),
            },
            settings: vec![],
        }
    }

    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let settings = [
            ("DATABASE_URL", self.database.url.clone()),
            ("NATS_URL", self.nats_url.clone()),
            ("NATS_STREAM", self.topic.stream.clone()),
            ("NATS_SUBJECT", self.topic.subject.clone()),
        ];
        [&settings[..], &self.settings].concat()
    }

    pub(crate) async fn serve(&self, arguments: &[&str]) -> Api {
        let api = self.serve_unready(arguments).await;
        api.ready().await;
        api
    }

    pub(crate) async fn serve_unready(&self, arguments: &[&str]) -> Api {
        self.start(&[&["serve"], arguments].concat()).await
    }

    /// Any role that answers health checks.
    pub(crate) async fn start(&self, arguments: &[&str]) -> Api {
        let service = Service::start("user-service", arguments, &self.environment());
        Api {
            url: service.url().await,
            client: Client::new(),
            service,
        }
    }

    /// A world whose services reach NATS through a proxy.
    pub(crate) async fn with_proxy_to_nats() -> (Self, Proxy) {
        let server = nats::shared_url().replace("nats://", "");
        let proxy = Proxy::start(server).await;
        let world = Self::with_nats(format!("nats://{}", proxy.address())).await;
        (world, proxy)
    }

    /// Services that are started from now on reach Postgres through a proxy.
    pub(crate) async fn proxy_to_postgres(&mut self) -> Proxy {
        let url = &self.database.url;
        let server = url.rsplit('@').next().and_then(|it| it.split('/').next());
        let server = server.expect("a host").to_owned();
        let proxy = Proxy::start(server.clone()).await;
        self.database.url = url.replace(&server, &proxy.address().to_string());
        proxy
    }

    /// Runs a command to its end; what it printed.
    pub(crate) async fn run(&self, arguments: &[&str]) -> (bool, String) {
        let mut service = Service::start("user-service", arguments, &self.environment());
        let status = service.process.ended().await;
        (status.success(), service.process.output().join("\n"))
    }

    pub(crate) async fn stream(&self) -> Stream {
        let client = eventually("an answer from NATS", async || {
            let servers: Vec<_> = self.nats_url.split(',').collect();
            async_nats::connect(servers).await.ok()
        })
        .await;
        let jetstream = jetstream::new(client);
        eventually("the stream", async || {
            jetstream.get_stream(&self.topic.stream).await.ok()
        })
        .await
    }

    /// What is on the stream, in its order.
    pub(crate) async fn events(&self) -> Vec<Published> {
        let stream = self.stream().await;
        let state = stream.cached_info().state.clone();
        let mut events = Vec::new();
        for sequence in state.first_sequence..=state.last_sequence {
            let message = stream.get_raw_message(sequence).await.expect("a message");
            let id = message.headers.get(headers::MESSAGE_ID);
            events.push(Published {
                id: id.map(ToString::to_string).unwrap_or_default(),
                event: UserEvent::parse(&message.payload).expect("an event"),
                body: String::from_utf8_lossy(&message.payload).into_owned(),
            });
        }
        events
    }

    /// Waits until the stream has `count` different events.
    pub(crate) async fn published(&self, count: usize) -> Vec<Published> {
        eventually("all events on the stream", async || {
            let state = self.stream().await.cached_info().state.clone();
            if state.messages < count as u64 {
                return None;
            }
            let events = self.events().await;
            let ids: std::collections::BTreeSet<_> = events.iter().map(|it| &it.id).collect();
            (ids.len() >= count).then_some(events)
        })
        .await
    }

    /// Runs statements as an operator or an accident would.
    pub(crate) async fn execute(&self, statements: &'static str) {
        let done = sqlx::raw_sql(statements).execute(&self.database.pool).await;
        done.expect("statements that run");
    }

    /// Waits until a statement waits for a lock.
    pub(crate) async fn lock_is_waited_for(&self) {
        eventually("a statement that waits for a lock", async || {
            let waiting: i64 = sqlx::query_scalar(
                "select count(*) from pg_stat_activity
                 where wait_event_type = 'Lock' and datname = current_database()",
            )
            .fetch_one(&self.database.pool)
            .await
            .ok()?;
            (waiting > 0).then_some(())
        })
        .await;
    }

    /// Waits until nothing is left to publish.
    pub(crate) async fn drained(&self) {
        eventually("an outbox with nothing pending", async || {
            let pending: Option<i64> = sqlx::query_scalar("select count(*) from outbox.pending")
                .fetch_one(&self.database.pool)
                .await
                .ok();
            (pending == Some(0)).then_some(())
        })
        .await;
    }
}

pub(crate) struct Published {
    pub(crate) id: String,
    pub(crate) event: UserEvent,
    /// As it is on the stream.
    pub(crate) body: String,
}

/// Fails unless each user's events appear on the stream in the order of their versions. What is
/// on it a second time does not count.
pub(crate) fn assert_in_order(events: &[Published]) {
    let mut seen = std::collections::BTreeSet::new();
    let mut versions = BTreeMap::new();
    for Published { id, event, .. } in events {
        if !seen.insert(id) {
            continue;
        }
        let state = event.state();
        let before = versions.insert(state.id, state.version).unwrap_or(0);
        assert!(
            state.version >= before,
            "version {} of user {} comes after {before}",
            state.version,
            state.id
        );
    }
}

pub(crate) struct Api {
    pub(crate) service: Service,
    url: String,
    client: Client,
}

impl Api {
    pub(crate) async fn ready(&self) {
        eventually("a service that is ready", async || {
            (self.get("/readyz").await.status() == StatusCode::OK).then_some(())
        })
        .await;
    }

    /// Waits until `/readyz` shows the check in this state: "ok" or "failed".
    pub(crate) async fn check_is(&self, check: &str, state: &str) {
        eventually(&format!("check {check} to be {state}"), async || {
            let readiness: Value = self.get("/readyz").await.json().await.expect("JSON");
            (readiness["checks"][check] == state).then_some(())
        })
        .await;
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        let request = self.client.get(self.to(path));
        request.send().await.expect("an answer")
    }

    pub(crate) async fn post(&self, body: &Value) -> Response {
        self.post_to("/users", body).await
    }

    pub(crate) async fn post_to(&self, path: &str, body: &Value) -> Response {
        let request = self.client.post(self.to(path)).json(body);
        request.send().await.expect("an answer")
    }

    pub(crate) async fn put(&self, id: i64, body: &Value) -> Response {
        let request = self.client.put(self.to(&format!("/users/{id}"))).json(body);
        request.send().await.expect("an answer")
    }

    pub(crate) async fn delete(&self, id: i64) -> Response {
        let request = self.client.delete(self.to(&format!("/users/{id}")));
        request.send().await.expect("an answer")
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn to(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// A new user; its id.
    pub(crate) async fn create(&self) -> i64 {
        let user = user("Ada");
        let response = unless_busy(async || self.post(&user).await).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        let user: Value = response.json().await.expect("a user");
        user["id"].as_i64().expect("an id")
    }

    pub(crate) async fn rename(&self, id: i64, name: &str) {
        let path = format!("/users/{id}");
        let before = unless_busy(async || self.get(&path).await).await;
        let before: Value = before.json().await.expect("a user");
        let email = before["email"].clone();
        let user = json!({ "name": name, "email": email });
        let response = unless_busy(async || self.put(id, &user).await).await;
        assert_eq!(response.status(), StatusCode::OK);
    }
}

/// Sends again what was answered with 503, as when no connection was free in time.
pub(crate) async fn unless_busy(send: impl AsyncFn() -> Response) -> Response {
    eventually("another answer than 503", async || {
        let response = send().await;
        (response.status() != StatusCode::SERVICE_UNAVAILABLE).then_some(response)
    })
    .await
}

/// A body with an address that nobody has.
pub(crate) fn user(name: &str) -> Value {
    json!({ "name": name, "email": format!("{}@example.com", unique("u")) })
}
