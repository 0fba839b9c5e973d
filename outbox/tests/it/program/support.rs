//! A database, streams and relays of its own for each test.

use async_nats::jetstream::{self, stream::Stream};
use sqlx::{AssertSqlSafe, PgPool};
use testkit::{Service, eventually, nats, postgres::Database, unique};

pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) stream: String,
    pub(crate) subject: String,
    /// Further ones, which go before the others.
    pub(crate) settings: Vec<(&'static str, String)>,
}

/// A message on the stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) event_id: String,
    pub(crate) aggregate_id: String,
    pub(crate) body: String,
}

impl World {
    /// With the schema, and no relay.
    pub(crate) async fn new() -> Self {
        let world = Self {
            database: Database::create().await,
            stream: unique("ORDERS"),
            subject: unique("orders"),
            settings: vec![],
        };
        world.run(&["migrate"]).await.expect("the schema");
        world
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.database.pool
    }

    pub(crate) async fn execute(&self, statements: &str) {
        let done = sqlx::raw_sql(AssertSqlSafe(statements)).execute(self.pool());
        done.await.expect("statements that run");
    }

    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        let routes = format!("order={}:{}", self.stream, self.subject);
        let settings = [
            ("DATABASE_URL", self.database.url.clone()),
            ("NATS_URL", nats::shared_url()),
            ("RELAY_ROUTES", routes),
        ];
        [&settings[..], &self.settings].concat()
    }

    pub(crate) fn relay(&self, arguments: &[&str]) -> Service {
        let arguments = [&["run"], arguments].concat();
        Service::start("outbox-relay", &arguments, &self.environment())
    }

    /// Runs a command to its end; what it printed, as an error with its exit code unless that is 0.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<String, (i32, String)> {
        let mut service = Service::start("outbox-relay", arguments, &self.environment());
        let status = service.process.ended().await;
        let output = service.process.output().join("\n");
        match status.code() {
            Some(0) => Ok(output),
            code => Err((code.unwrap_or(-1), output)),
        }
    }

    /// Parks every event of the ledger, as the relay would if `JetStream` refused them.
    pub(crate) async fn park_all(&self) {
        self.execute(
            "insert into outbox.parked (id, event_id, aggregate_type, aggregate_id, event_type,
                                        version, payload, headers, created_at, reason, attempts)
             select id, event_id, aggregate_type, aggregate_id, event_type,
                    version, payload, headers, created_at, 'too large', 3
             from outbox.event",
        )
        .await;
    }

    /// The first places of the events that are in the ledger a second time, in the order of their
    /// second ones.
    pub(crate) async fn retried(&self) -> Vec<i64> {
        sqlx::query_scalar(
            "select min(id) from outbox.event group by event_id having count(*) > 1 order by max(id)",
        )
        .fetch_all(self.pool())
        .await
        .expect("events")
    }

    /// Waits until the stream has `count` messages.
    pub(crate) async fn published(&self, count: u64) -> Vec<Message> {
        let client = async_nats::connect(nats::shared_url()).await.expect("NATS");
        let jetstream = jetstream::new(client);
        let stream = eventually("all events on the stream", async || {
            let stream = jetstream.get_stream(&self.stream).await.ok()?;
            (stream.cached_info().state.messages >= count).then_some(stream)
        })
        .await;
        messages(&stream).await
    }
}

async fn messages(stream: &Stream) -> Vec<Message> {
    let mut messages = Vec::new();
    for sequence in 1..=stream.cached_info().state.last_sequence {
        let message = stream.get_raw_message(sequence).await.expect("a message");
        let header = |name| message.headers.get(name).map(ToString::to_string);
        messages.push(Message {
            event_id: header("Nats-Msg-Id").expect("an id"),
            aggregate_id: header("ce-subject").expect("a subject"),
            body: String::from_utf8_lossy(&message.payload).into_owned(),
        });
    }
    messages
}
