//! A database and streams of its own for each test, and relays in this process.

use std::collections::BTreeSet;

use async_nats::{
    Client, HeaderMap, Subscriber,
    jetstream::{self, stream::Stream},
};
use clap::Parser;
use futures::{FutureExt, StreamExt};
use outbox::{Relay, RelayConfig, Routes, Written, relay_pool};
use service_runtime::{nats::stream::StreamMetadata, progress::Progress};
use sqlx::{Postgres, Transaction};
use testkit::{eventually, nats, postgres::Database, unique};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    relay: RelayConfig,
}

pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) client: Client,
    pub(crate) jetstream: jetstream::Context,
    pub(crate) nats_url: String,
}

/// A stream with its subject, under names that no other test has.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) stream: String,
    pub(crate) subject: String,
}

impl Target {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            stream: unique(&name.to_uppercase()),
            subject: unique(name),
        }
    }

    pub(crate) fn route(&self, aggregate_type: &str) -> String {
        format!("{aggregate_type}={}:{}", self.stream, self.subject)
    }
}

pub(crate) struct RunningRelay {
    shutdown: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl RunningRelay {
    /// In good order.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        let stopped = self.running.await.expect("no panic");
        stopped.expect("an orderly end");
    }

    /// Without another word to any server.
    pub(crate) async fn crash(self) {
        self.running.abort();
        assert!(self.running.await.expect_err("it is gone").is_cancelled());
    }
}

impl World {
    /// On a database that has the schema.
    pub(crate) async fn at(database: Database) -> Self {
        testkit::print_logs();
        let nats_url = nats::shared_url();
        let client = async_nats::connect(&nats_url).await.expect("NATS");
        Self {
            database,
            jetstream: jetstream::new(client.clone()),
            client,
            nats_url,
        }
    }

    pub(crate) async fn new() -> Self {
        let world = Self::at(Database::create().await).await;
        let url = world.database.url.parse().expect("a URL");
        outbox::migrate(&url).await.expect("a schema");
        world
    }

    /// With streams on a server of the test's own.
    pub(crate) async fn on(server: &nats::Server) -> Self {
        let client = server.client().await;
        Self {
            nats_url: server.url(),
            jetstream: jetstream::new(client.clone()),
            client,
            ..Self::new().await
        }
    }

    pub(crate) fn relay(&self, routes: &[String], arguments: &[&str]) -> RunningRelay {
        let always = ["relay", "--nats-url", &self.nats_url];
        let config = Cli::parse_from([&always[..], arguments].concat()).relay;
        let routes = routes.iter().map(|route| route.parse().expect("a route"));
        let routes = Routes::new(routes).expect("routes");
        let url = self.database.url.parse().expect("a URL");
        let relay = Relay {
            pool: relay_pool(&url, &routes).expect("a pool"),
            routes,
            config,
            written: Written::default(),
            progress: Progress::new("relay"),
        };
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(relay.run(shutdown.clone()));
        RunningRelay { shutdown, running }
    }

    /// Appends as any client of Postgres would; the event's place.
    pub(crate) async fn append(&self, aggregate_type: &str, aggregate_id: &str) -> i64 {
        sqlx::query_scalar("select outbox.append($1, $2, 'changed', '{\"some\": \"state\"}')")
            .bind(aggregate_type)
            .bind(aggregate_id)
            .fetch_one(&self.database.pool)
            .await
            .expect("an event")
    }

    pub(crate) async fn append_many(&self, aggregate_type: &str, count: usize) {
        for number in 0..count {
            self.append(aggregate_type, &(number % 3).to_string()).await;
        }
    }

    /// Has the ledger grow to as many events of accounts, and waits until all are published.
    pub(crate) async fn publish_up_to(&self, target: &Target, events: usize) {
        let held = self.events().await.len();
        self.append_many("account", events - held).await;
        self.holds(target, events as u64).await;
        self.drained(target).await;
    }

    pub(crate) async fn execute(&self, statements: &'static str) {
        let done = sqlx::raw_sql(statements).execute(&self.database.pool).await;
        done.expect("statements that run");
    }

    /// Waits until the query says so.
    pub(crate) async fn is_true(&self, query: &'static str) {
        eventually(query, async || {
            let answer = sqlx::query_scalar(query).fetch_one(&self.database.pool);
            answer.await.is_ok_and(|it: bool| it).then_some(())
        })
        .await;
    }

    /// Waits until a statement like this one waits for a lock.
    pub(crate) async fn waits(&self, statement: &'static str) {
        eventually(statement, async || {
            let waiting = sqlx::query_scalar(
                r"
                select exists (
                    select from pg_stat_activity
                    where datname = current_database() and wait_event_type = 'Lock'
                        and regexp_replace(query, '\s+', ' ', 'g') like $1
                )
                ",
            );
            let waiting = waiting.bind(statement).fetch_one(&self.database.pool);
            waiting.await.is_ok_and(|it: bool| it).then_some(())
        })
        .await;
    }

    /// An event that an earlier relay has sent as the fourth message and that is not committed yet, after three
    /// others; the cursor has passed one that came later.
    pub(crate) async fn sent_and_not_committed(
        &self,
        to: &Target,
    ) -> Transaction<'static, Postgres> {
        let mut writing = self.database.pool.begin().await.expect("a transaction");
        let append = sqlx::query("select outbox.append('account', '7', 'changed', '{}')");
        append.execute(&mut *writing).await.expect("an event");
        let event_id = "select event_id::text from outbox.event order by id desc limit 1";
        let event_id = sqlx::query_scalar(event_id).fetch_one(&mut *writing).await;
        let event_id: String = event_id.expect("its id");
        self.publish_by_hand(to, &[("Nats-Msg-Id", &event_id)])
            .await;
        self.append("account", "8").await;
        self.is_true("select last_id = 5 and gaps <> '{}' from outbox.cursor")
            .await;
        writing
    }

    /// As another relay would.
    pub(crate) async fn publish_by_hand(&self, to: &Target, headers: &[(&str, &str)]) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, *value);
        }
        let body = r#"{"type":"account_changed","payload":{"name":"theirs"}}"#;
        let published = (self.jetstream)
            .publish_with_headers(to.subject.clone(), map, body.into())
            .await;
        published.expect("published").await.expect("stored");
    }

    pub(crate) async fn stream(&self, target: &Target) -> Stream {
        eventually("the stream", async || {
            self.jetstream.get_stream(&target.stream).await.ok()
        })
        .await
    }

    /// Waits until the stream holds as many messages, or events, if some are there twice: after another session or
    /// a change of the routes, what came before a checkpoint.
    pub(crate) async fn holds(&self, target: &Target, count: u64) {
        eventually("all events on the stream", async || {
            let held = self.stream(target).await.cached_info().state.messages;
            let is_all = held == count
                || (held > count && self.on_stream(target).await.len() as u64 == count);
            is_all.then_some(())
        })
        .await;
    }

    /// Waits until the stream has all events of the ledger, and no others.
    pub(crate) async fn has_all(&self, target: &Target) {
        let events = self.events().await;
        eventually("all events of the ledger on the stream", async || {
            (self.on_stream(target).await == events).then_some(())
        })
        .await;
    }

    /// Waits until readers are told that the event of this lost message is on the stream again.
    pub(crate) async fn is_refilled(&self, target: &Target, sequence: u64) {
        eventually("readers to be told", async || {
            let stream = self.stream(target).await;
            let refilled = StreamMetadata::of(stream.cached_info()).refilled;
            let is_told = refilled
                .iter()
                .any(|it| it.missing == (sequence..=sequence));
            is_told.then_some(())
        })
        .await;
    }

    /// Waits until nothing is left to publish to this stream.
    pub(crate) async fn drained(&self, target: &Target) {
        eventually("nothing pending", async || {
            let pending: i64 = sqlx::query_scalar(
                "select count(*) from outbox.pending where stream = $1 or stream is null",
            )
            .bind(&target.stream)
            .fetch_one(&self.database.pool)
            .await
            .ok()?;
            (pending == 0).then_some(())
        })
        .await;
    }

    /// The ids of all events of the ledger.
    pub(crate) async fn events(&self) -> BTreeSet<String> {
        let ids: Vec<String> = sqlx::query_scalar("select event_id::text from outbox.event")
            .fetch_all(&self.database.pool)
            .await
            .expect("the ledger");
        ids.into_iter().collect()
    }

    /// The ids of all events that can be read from the stream.
    pub(crate) async fn on_stream(&self, target: &Target) -> BTreeSet<String> {
        let stream = self.stream(target).await;
        let state = &stream.cached_info().state;
        let mut ids = BTreeSet::new();
        for sequence in state.first_sequence..=state.last_sequence {
            if let Ok(message) = stream.get_raw_message(sequence).await {
                ids.extend(message.headers.get("ce-id").map(ToString::to_string));
            }
        }
        ids
    }

    pub(crate) async fn parked(&self) -> Vec<(i64, String, i32)> {
        sqlx::query_as("select id, reason, attempts from outbox.parked order by id")
            .fetch_all(&self.database.pool)
            .await
            .expect("parked events")
    }

    /// Everything that is sent to the subject from now on, also what the stream takes for a repeat.
    pub(crate) async fn listen(&self, target: &Target) -> Subscriber {
        let subscriber = self.client.subscribe(target.subject.clone()).await;
        self.client.flush().await.expect("a flush");
        subscriber.expect("a subscription")
    }
}

/// How many messages a subscriber has by now.
pub(crate) async fn heard(world: &World, subscriber: &mut Subscriber) -> usize {
    world.client.flush().await.expect("a flush");
    let mut count = 0;
    while subscriber.next().now_or_never().flatten().is_some() {
        count += 1;
    }
    count
}
