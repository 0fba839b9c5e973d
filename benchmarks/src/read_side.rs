//! The projector draining a full stream, and reads of the copy, each beside what the servers alone
//! can do.

use std::{net::SocketAddr, time::Duration};

use anyhow::ensure;
use async_nats::jetstream::{
    AckKind,
    consumer::{AckPolicy, pull},
    stream::Stream,
};
use futures::{StreamExt, TryStreamExt, stream};
use mongodb::{
    Database,
    bson::{DateTime, Document, doc},
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    http::Connection,
    report::{Report, percentile},
    stack::{Stack, ready},
};

/// As the projector writes: so many in a command, so many commands at once.
const BATCH: usize = 1000;
const COMMANDS_AT_ONCE: usize = 2;
const CLIENTS: usize = 32;
const PAGE: i64 = 100;
const COPY: &str = "user_notifications";
const POLL: Duration = Duration::from_millis(5);

pub(crate) async fn run(quick: bool, report: &mut Report) -> anyhow::Result<()> {
    let (rounds, events, seconds) = if quick {
        (1, 50_000, 2)
    } else {
        (5, 200_000, 5)
    };
    let (mut mongodb, mut jetstream) = (vec![], vec![]);
    let (mut fresh, mut repeated, mut hot) = (vec![], vec![], vec![]);
    let mut reads = Reads::default();
    for _ in 0..rounds {
        let stack = Stack::new().await?;
        stack.fill_stream(events, 1).await?;
        mongodb.push(write_alone(&stack).await?);
        jetstream.push(fetch_alone(&stack, events).await?);
        fresh.push(drain(&stack, "fresh", events).await?);
        repeated.push(drain(&stack, "repeated", events).await?);
        reads
            .measure(&stack, events, Duration::from_secs(seconds))
            .await?;

        let stack = Stack::new().await?;
        stack.fill_stream(events / 100, 100).await?;
        hot.push(drain(&stack, "hot", events).await?);
    }
    let median = |rounds: &[f64]| percentile(&mut rounds.to_vec(), 0.5);
    let limit = if median(&mongodb) < median(&jetstream) {
        ("MongoDB alone", &mongodb[..])
    } else {
        ("JetStream alone", &jetstream[..])
    };
    report.add("MongoDB alone: update commands of 1,000", "/s", &mongodb);
    report.add("JetStream alone: fetch and acknowledge", "/s", &jetstream);
    report.add_beside(
        format!("projector, {events} fresh events"),
        "/s",
        &fresh,
        limit,
    );
    // On processors that either server alone keeps busy, the work of both is done in turn.
    let both: Vec<f64> = (mongodb.iter().zip(&jetstream))
        .map(|(mongodb, jetstream)| 1.0 / (1.0 / mongodb + 1.0 / jetstream))
        .collect();
    let in_turn = ("both servers' work in turn", &both[..]);
    report.add_beside(
        "the same, on processors that are all busy",
        "/s",
        &fresh,
        in_turn,
    );
    report.add_beside("projector, every event a repeat", "/s", &repeated, limit);
    report.add_beside("projector, 100 events of each user", "/s", &hot, limit);
    reads.report(report);
    Ok(())
}

/// The same documents by the same command in the same batches, without a guard.
async fn write_alone(stack: &Stack) -> anyhow::Result<f64> {
    let payloads: Vec<String> =
        sqlx::query_scalar("select payload::text from outbox.event order by id")
            .fetch_all(stack.pool())
            .await?;
    let updates = payloads.iter().map(|payload| {
        let state: Value = serde_json::from_str(payload)?;
        let text = |name: &str| state[name].as_str().unwrap_or_default().to_owned();
        anyhow::Ok(doc! {
            "q": { "_id": state["id"].as_i64() },
            "u": {
                "user_id": state["id"].as_i64(), "name": text("name"), "email": text("email"),
                "updated_at": DateTime::parse_rfc3339_str(text("updated_at"))?,
                "version": state["version"].as_i64(),
            },
            "upsert": true,
        })
    });
    let updates: Vec<Document> = updates.collect::<Result<_, _>>()?;
    let database = stack.mongo.database.clone();
    let started = Instant::now();
    stream::iter(updates.chunks(BATCH).map(|batch| update(&database, batch)))
        .buffer_unordered(COMMANDS_AT_ONCE)
        .try_collect::<()>()
        .await?;
    let rate = updates.len() as f64 / started.elapsed().as_secs_f64();
    database.drop().await?;
    Ok(rate)
}

async fn update(database: &Database, updates: &[Document]) -> anyhow::Result<()> {
    let command = doc! {
        "update": "limit", "updates": updates, "ordered": false,
        "writeConcern": { "w": "majority", "j": true },
    };
    let reply = database.run_command(command).await?;
    ensure!(!reply.contains_key("writeErrors"), "{reply}");
    Ok(())
}

async fn fetch_alone(stack: &Stack, events: i64) -> anyhow::Result<f64> {
    let stream = stack.stream().await?;
    let config = pull::Config {
        durable_name: Some("limit".to_owned()),
        ack_policy: AckPolicy::Explicit,
        max_ack_pending: 20_000,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await?;
    let started = Instant::now();
    let mut left = events;
    while left > 0 {
        let mut messages = consumer.fetch().max_messages(BATCH).messages().await?;
        while let Some(message) = messages.next().await {
            let message = message.map_err(anyhow::Error::from_boxed)?;
            let acked = message.ack_with(AckKind::Ack).await;
            acked.map_err(anyhow::Error::from_boxed)?;
            left -= 1;
        }
    }
    Ok(events as f64 / started.elapsed().as_secs_f64())
}

/// Starts a service on a full stream; how many events it applies a second.
async fn drain(stack: &Stack, consumer: &str, events: i64) -> anyhow::Result<f64> {
    let arguments = ["serve", "--consumer", consumer];
    let mut service = stack.start("notification-service", &arguments);
    let rate = until_applied(&stack.stream().await?, consumer, events).await?;
    service.process.stop().await;
    let copies = stack
        .mongo
        .collection(COPY)
        .estimated_document_count()
        .await?;
    let users = "select count(distinct aggregate_id) from outbox.event";
    let users: i64 = sqlx::query_scalar(users).fetch_one(stack.pool()).await?;
    ensure!(
        copies == users.unsigned_abs(),
        "{copies} copies of {users} users, {events} events"
    );
    Ok(rate)
}

/// Waits until the last `events` of the stream are applied. The clock runs from the first look at which
/// something is acknowledged, so that starting the process does not count.
pub(crate) async fn until_applied(
    stream: &Stream,
    consumer: &str,
    events: i64,
) -> anyhow::Result<f64> {
    let last = stream.cached_info().state.last_sequence;
    let passed = last.saturating_sub(events.unsigned_abs());
    let mut began: Option<(Instant, u64)> = None;
    loop {
        sleep(POLL).await;
        let Ok(info) = stream.consumer_info(consumer).await else {
            continue;
        };
        let done = info.ack_floor.stream_sequence;
        match began {
            None if done > passed => began = Some((Instant::now(), done)),
            Some((began, before)) if done == last => {
                return Ok((last - before) as f64 / began.elapsed().as_secs_f64());
            }
            _ => {}
        }
    }
}

#[derive(Default)]
struct Reads {
    one_alone: Vec<f64>,
    one: Vec<f64>,
    page_alone: Vec<f64>,
    page: Vec<f64>,
}

impl Reads {
    async fn measure(&mut self, stack: &Stack, users: i64, time: Duration) -> anyhow::Result<()> {
        let service = stack.start("notification-service", &["serve"]);
        let address = ready(&service).await?;
        let copy = stack.mongo.collection(COPY);
        self.one_alone.push(
            rate(time, async |number| {
                let found = copy.find_one(doc! { "_id": number % users + 1 }).await?;
                ensure!(found.is_some(), "no such user");
                Ok(())
            })
            .await?,
        );
        self.one.push(
            requests(address, time, |number| {
                format!("/notifications/user/{}", number % users + 1)
            })
            .await?,
        );
        self.page_alone.push(
            rate(time, async |_| {
                let living = doc! { "_id": { "$gt": 0 }, "deleted_at": { "$exists": false } };
                let page = copy.find(living).sort(doc! { "_id": 1 }).limit(PAGE);
                let page: Vec<Document> = page.await?.try_collect().await?;
                ensure!(page.len() == 100, "{} users", page.len());
                Ok(())
            })
            .await?,
        );
        self.page
            .push(requests(address, time, |_| "/notifications".to_owned()).await?);
        Ok(())
    }

    fn report(&self, report: &mut Report) {
        report.add("driver alone, one by id, 32 at once", "/s", &self.one_alone);
        let limit = ("the driver alone", &self.one_alone[..]);
        report.add_beside(
            "GET /notifications/user/{id}, 32 clients",
            "/s",
            &self.one,
            limit,
        );
        report.add(
            "driver alone, first page, 32 at once",
            "/s",
            &self.page_alone,
        );
        let limit = ("the driver alone", &self.page_alone[..]);
        report.add_beside("GET /notifications, 32 clients", "/s", &self.page, limit);
    }
}

/// How often a second `ask` is done, by so many clients at once that each go on as soon as they
/// can.
async fn rate(time: Duration, ask: impl AsyncFn(i64) -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let started = Instant::now();
    let clients = (0..CLIENTS).map(|client| {
        let ask = &ask;
        async move {
            let (mut number, mut done) = (i64::try_from(client)? * 7919, 0_u64);
            while started.elapsed() < time {
                ask(number).await?;
                number += 1;
                done += 1;
            }
            anyhow::Ok(done)
        }
    });
    let done = futures::future::try_join_all(clients).await?;
    Ok(done.iter().sum::<u64>() as f64 / started.elapsed().as_secs_f64())
}

async fn requests(
    address: SocketAddr,
    time: Duration,
    path: impl Fn(i64) -> String,
) -> anyhow::Result<f64> {
    let idle = tokio::sync::Mutex::new(Vec::new());
    for _ in 0..CLIENTS {
        idle.lock().await.push(Connection::open(address).await?);
    }
    rate(time, async |number| {
        let connection = idle.lock().await.pop();
        let mut connection = match connection {
            Some(connection) => connection,
            None => Connection::open(address).await?,
        };
        let answer = connection.get(&path(number)).await?;
        ensure!(answer.status == 200, "status {}", answer.status);
        idle.lock().await.push(connection);
        Ok(())
    })
    .await
}
