//! The relay draining a full outbox, beside what JetStream takes and what Postgres gives.

mod gap;

use std::time::Duration;

use anyhow::Context;
use async_nats::{
    HeaderMap,
    jetstream::stream::{Config, StorageType},
};
use futures::{StreamExt, stream::FuturesOrdered};
use service_runtime::nats::headers;
use sqlx::FromRow;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    http::Connection,
    report::{Report, percentile},
    stack::{Stack, ready},
};

/// As the relay reads.
const BATCH: i64 = 1000;

#[derive(FromRow)]
struct Event {
    id: i64,
    event_id: Uuid,
    event_type: String,
    aggregate_id: String,
    payload: String,
}

pub(crate) async fn run(quick: bool, report: &mut Report) -> anyhow::Result<()> {
    let (rounds, events, backlog) = if quick {
        (1, 50_000, 200_000)
    } else {
        (5, 200_000, 1_000_000)
    };
    let (mut postgres, mut jetstream, mut relay, mut hot) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rounds {
        let stack = Stack::new().await?;
        stack.fill_outbox(events, 1).await?;
        let mut fastest: f64 = 0.0;
        for in_flight in [1024, 4096] {
            fastest = fastest.max(publish_alone(&stack, in_flight).await?);
        }
        jetstream.push(fastest);
        postgres.push(read_alone(&stack).await?);
        relay.push(drain(&stack, events).await?);

        let stack = Stack::new().await?;
        stack.fill_outbox(events / 100, 100).await?;
        hot.push(drain(&stack, events).await?);
    }
    let (median_postgres, median_jetstream) = (median(&postgres), median(&jetstream));
    let limit = if median_postgres < median_jetstream {
        ("Postgres alone", &postgres[..])
    } else {
        ("JetStream alone", &jetstream[..])
    };
    report.add("JetStream alone: async publish", "/s", &jetstream);
    report.add(
        "Postgres alone: read a batch, move the cursor",
        "/s",
        &postgres,
    );
    report.add_beside(format!("relay, {events} events"), "/s", &relay, limit);
    report.add_beside("relay, each user's 100 events in a row", "/s", &hot, limit);
    waiting(backlog, rounds.min(3), report).await?;
    let retained = if quick { 1_000_000 } else { 10_000_000 };
    gap::run(retained, events / 2, rounds, report).await?;
    idle(report).await
}

fn median(rounds: &[f64]) -> f64 {
    percentile(&mut rounds.to_vec(), 0.5)
}

/// The same messages with the same headers, published as fast as they are taken.
async fn publish_alone(stack: &Stack, in_flight: usize) -> anyhow::Result<f64> {
    let name = testkit::unique("LIMIT");
    let messages: Vec<_> = (sqlx::query_as::<_, Event>(
        "select id, event_id, event_type, aggregate_id, payload::text as payload
         from outbox.event order by id",
    )
    .fetch_all(stack.pool())
    .await?)
        .iter()
        .map(|event| message(event, &name))
        .collect();
    let jetstream = stack.jetstream().await?;
    let subject = testkit::unique("limit");
    let config = Config {
        name: name.clone(),
        subjects: vec![subject.clone()],
        storage: StorageType::File,
        duplicate_window: Duration::from_mins(15),
        ..Config::default()
    };
    jetstream.create_stream(config).await?;

    let count = messages.len();
    let started = Instant::now();
    let mut acks = FuturesOrdered::new();
    for (headers, body) in messages {
        if acks.len() == in_flight {
            acks.next().await.context("an acknowledgement")??;
        }
        let ack = jetstream.publish_with_headers(subject.clone(), headers, body.into());
        acks.push_back(ack.await?.into_future());
    }
    while let Some(ack) = acks.next().await {
        ack?;
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    jetstream.delete_stream(name).await?;
    Ok(rate)
}

fn message(event: &Event, stream: &str) -> (HeaderMap, Vec<u8>) {
    let id = event.event_id.to_string();
    let mut map = HeaderMap::new();
    map.insert(headers::MESSAGE_ID, id.as_str());
    map.insert(headers::EXPECTED_STREAM, stream);
    map.insert(headers::CE_SPEC_VERSION, headers::CE_SPEC_VERSION_1);
    map.insert(headers::CE_ID, id.as_str());
    map.insert(headers::CE_SOURCE, "/user-service");
    map.insert(headers::CE_TYPE, event.event_type.as_str());
    map.insert(headers::CE_TIME, "2026-01-02T03:04:05.678Z");
    map.insert(headers::CE_SUBJECT, event.aggregate_id.as_str());
    map.insert(headers::CE_OUTBOX_ID, event.id.to_string());
    map.insert(headers::CE_AGGREGATE_TYPE, "user");
    let body = format!(
        r#"{{"type":"{}","payload":{}}}"#,
        event.event_type, event.payload
    );
    (map, body.into_bytes())
}

/// Reads all events in batches and moves the cursor after each, as the relay would.
async fn read_alone(stack: &Stack) -> anyhow::Result<f64> {
    let (mut last_id, mut count) = (0, 0);
    sqlx::query("insert into outbox.cursor (stream) values ('read alone')")
        .execute(stack.pool())
        .await?;
    let started = Instant::now();
    loop {
        let batch: Vec<Event> = sqlx::query_as(
            r"
            select id, event_id, aggregate_type, aggregate_id, event_type, created_at,
                   payload::text as payload, headers::text as headers
            from outbox.event where id > $1 order by id limit $2
            ",
        )
        .bind(last_id)
        .bind(BATCH)
        .fetch_all(stack.pool())
        .await?;
        let Some(last) = batch.last() else {
            break;
        };
        last_id = last.id;
        count += batch.len();
        sqlx::query("update outbox.cursor set last_id = $1 where stream = 'read alone'")
            .bind(last_id)
            .execute(stack.pool())
            .await?;
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    sqlx::query("delete from outbox.cursor where stream = 'read alone'")
        .execute(stack.pool())
        .await?;
    Ok(rate)
}

/// Starts a relay on a full outbox; how many events it publishes a second. The clock is JetStream's: from the first message stored to the
/// last, so that starting the process does not count.
async fn drain(stack: &Stack, events: i64) -> anyhow::Result<f64> {
    let mut relay = stack.start("user-service", &["relay"]);
    stack.drained().await;
    relay.process.stop().await;
    let state = stack.stream().await?.cached_info().state.clone();
    anyhow::ensure!(
        state.messages == events.unsigned_abs(),
        "{} messages",
        state.messages
    );
    let seconds = (state.last_timestamp - state.first_timestamp).as_seconds_f64();
    stack
        .jetstream()
        .await?
        .delete_stream(&stack.stream)
        .await?;
    Ok(events as f64 / seconds)
}

/// What an event costs with few and with many waiting, and what the ledger looks like afterwards.
async fn waiting(backlog: i64, rounds: usize, report: &mut Report) -> anyhow::Result<()> {
    let (mut few, mut many, mut sizes, mut dead_tuples) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rounds {
        let stack = Stack::new().await?;
        stack.fill_outbox(10_000, 1).await?;
        few.push(1e6 / drain(&stack, 10_000).await?);
        let stack = Stack::new().await?;
        stack.fill_outbox(backlog, 1).await?;
        many.push(1e6 / drain(&stack, backlog).await?);
        let (bytes, dead): (i64, i64) = sqlx::query_as(
            r"
            select sum(pg_total_relation_size(relid))::bigint, sum(n_dead_tup)::bigint
            from pg_stat_user_tables where schemaname = 'outbox'
            ",
        )
        .fetch_one(stack.pool())
        .await?;
        sizes.push(bytes as f64 / 1e6);
        dead_tuples.push(dead as f64);
    }
    report.add(format!("ledger after {backlog} events"), "MB", &sizes);
    report.add("dead tuples in it and in the cursor", "", &dead_tuples);
    report.add("an event with 10000 waiting", "µs", &few);
    report.add_beside(
        format!("an event with {backlog} waiting"),
        "µs",
        &many,
        ("that with 10000 waiting", &few),
    );
    Ok(())
}

/// What an idle relay asks of Postgres, and how long a single write takes to the stream, API and
/// relay being different processes.
async fn idle(report: &mut Report) -> anyhow::Result<()> {
    const WRITES: usize = 200;
    const PAUSE: Duration = Duration::from_millis(20);
    // Postgres lets idle connections keep their counts for ten seconds.
    const SETTLED: Duration = Duration::from_secs(11);
    const WATCHED: Duration = Duration::from_secs(10);
    let stack = Stack::new().await?;
    let api = stack.start("user-service", &["serve", "--no-relay"]);
    let mut connection = Connection::open(ready(&api).await?).await?;
    let _relay = stack.start("user-service", &["relay"]);
    let client = async_nats::connect(testkit::nats::shared_url()).await?;
    let mut events = client.subscribe(stack.subject.clone()).await?;
    client.flush().await?;
    connection.create_user("first@example.com").await?;
    events.next().await.context("an event")?;

    let mut latencies = Vec::new();
    for number in 0..WRITES {
        // Idle again after the one before.
        tokio::time::sleep(PAUSE).await;
        connection
            .create_user(&format!("u{number}@example.com"))
            .await?;
        let answered = Instant::now();
        events.next().await.context("an event")?;
        latencies.push(answered.elapsed().as_secs_f64() * 1000.0);
    }
    report.add(
        "a write on an idle system, 201 to stream, p50",
        "ms",
        &[percentile(&mut latencies, 0.5)],
    );
    report.add(
        "a write on an idle system, 201 to stream, p99",
        "ms",
        &[percentile(&mut latencies, 0.99)],
    );

    let transactions = async || -> sqlx::Result<i64> {
        sqlx::query_scalar(
            "select xact_commit from pg_stat_database where datname = current_database()",
        )
        .fetch_one(stack.pool())
        .await
    };
    tokio::time::sleep(SETTLED).await;
    let before = transactions().await?;
    tokio::time::sleep(WATCHED).await;
    let asked = transactions().await? - before;
    report.add(
        "transactions of an idle relay and API",
        "/s",
        &[asked as f64 / WATCHED.as_secs_f64()],
    );
    Ok(())
}
