//! Databases, streams and services for one contestant.

use std::{net::SocketAddr, ops::RangeInclusive};

use anyhow::{Context, ensure};
use async_nats::jetstream::{self, stream::Stream};
use sqlx::PgPool;
use testkit::{Service, eventually, mongodb, nats, postgres::Database, unique};

use crate::http::Connection;

pub(crate) struct Stack {
    pub(crate) postgres: Database,
    pub(crate) stream: String,
    pub(crate) subject: String,
    pub(crate) mongo: mongodb::Database,
    /// Settings of the services, beside those that every stack has.
    settings: Vec<(&'static str, String)>,
}

impl Stack {
    /// With the schema in place.
    pub(crate) async fn new() -> anyhow::Result<Self> {
        let stack = Self {
            postgres: Database::create().await,
            stream: unique("BENCH"),
            subject: unique("bench"),
            mongo: mongodb::Database::create().await,
            settings: Vec::new(),
        };
        let mut migrate = stack.start("user-service", &["migrate"]);
        ensure!(
            migrate.process.ended().await.success(),
            "the schema was not made"
        );
        Ok(stack)
    }

    /// The same stack, whose services have these settings from now on.
    pub(crate) fn with(mut self, settings: &[(&'static str, String)]) -> Self {
        self.settings.extend_from_slice(settings);
        self
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.postgres.pool
    }

    /// Starts a service; what it serves is another matter.
    pub(crate) fn start(&self, binary: &str, arguments: &[&str]) -> Service {
        let environment = [
            ("DATABASE_URL", self.postgres.url.clone()),
            ("MONGODB_URI", self.mongo.uri.clone()),
            ("MONGODB_DATABASE", self.mongo.name.clone()),
            ("NATS_URL", nats::shared_url()),
            ("NATS_STREAM", self.stream.clone()),
            ("NATS_SUBJECT", self.subject.clone()),
            ("NATS_CONSUMER", self.stream.clone()),
            ("DATABASE_CONNECTIONS", "32".to_owned()),
            ("RUST_LOG", "info".to_owned()),
        ];
        let environment = [&environment[..], &self.settings].concat();
        Service::start(binary, arguments, &environment)
    }

    /// Waits until nothing is left to publish.
    pub(crate) async fn drained(&self) {
        eventually("an outbox with nothing pending", async || {
            let lag = "select s.last_value - c.last_id from outbox.event_id_seq s, outbox.cursor c";
            let lag: i64 = sqlx::query_scalar(lag).fetch_one(self.pool()).await.ok()?;
            (lag == 0).then_some(())
        })
        .await;
    }

    pub(crate) async fn jetstream(&self) -> anyhow::Result<jetstream::Context> {
        let client = async_nats::connect(nats::shared_url()).await?;
        Ok(jetstream::ContextBuilder::new()
            .max_ack_inflight(100_000)
            .build(client))
    }

    pub(crate) async fn stream(&self) -> anyhow::Result<Stream> {
        let jetstream = self.jetstream().await?;
        Ok(jetstream.get_stream(&self.stream).await?)
    }

    /// Has the relay bring as many events to the stream as [`Stack::fill_outbox`] writes.
    pub(crate) async fn fill_stream(&self, users: i64, changes: i64) -> anyhow::Result<()> {
        self.fill_outbox(users, changes).await?;
        self.publish().await;
        Ok(())
    }

    /// Has the relay bring all that is in the outbox to the stream.
    pub(crate) async fn publish(&self) {
        let mut relay = self.start("user-service", &["relay"]);
        self.drained().await;
        relay.process.stop().await;
    }

    /// Fills the outbox as `users` new users would, each with `changes` events one after the other.
    pub(crate) async fn fill_outbox(&self, users: i64, changes: i64) -> sqlx::Result<()> {
        self.write_events(1..=users, changes, false).await?;
        sqlx::raw_sql("vacuum analyze outbox.event")
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// As so many new users would, each in a trace of its own; one in a hundred is sampled.
    pub(crate) async fn write_traced_events(&self, events: i64) -> sqlx::Result<()> {
        let last: i64 = sqlx::query_scalar("select last_value from outbox.event_id_seq")
            .fetch_one(self.pool())
            .await?;
        self.write_events(last + 1..=last + events, 1, true).await
    }

    async fn write_events(
        &self,
        users: RangeInclusive<i64>,
        changes: i64,
        are_traced: bool,
    ) -> sqlx::Result<()> {
        sqlx::query(
            r"
            insert into outbox.event
                (event_id, aggregate_type, aggregate_id, event_type, version, payload, headers)
            select gen_random_uuid(), 'user', id::text, 'user_created', version,
                   user_state(id, 'Ada Lovelace', 'user' || id || '@example.com',
                              clock_timestamp(), version),
                   case when $4 then json_build_object(
                       'traceparent',
                       '00-' || md5(id::text) || '-' || left(md5('span' || id), 16)
                           || case when id % 100 = 0 then '-01' else '-00' end
                   ) end
            from generate_series($1, $2) as id, generate_series(1, $3) as version
            order by id, version
            ",
        )
        .bind(users.start())
        .bind(users.end())
        .bind(changes)
        .bind(are_traced)
        .execute(self.pool())
        .await
        .map(drop)
    }
}

/// Where a service listens, once it is ready.
pub(crate) async fn ready(service: &Service) -> anyhow::Result<SocketAddr> {
    let url = service.url().await;
    let address = url.strip_prefix("http://").context("a URL")?.parse()?;
    eventually("a service that is ready", async || {
        let mut connection = Connection::open(address).await.ok()?;
        let answer = connection.get("/readyz").await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
    Ok(address)
}
