//! From the answer of a write to its visible copy, at a steady rate of writes.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};
use futures::{StreamExt, stream::FuturesUnordered};
use serde_json::Value;
use testkit::unique;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    http::Connection,
    report::{Report, percentile},
    stack::{Stack, ready},
};

/// Copies looked for in a second: looking is work as well, so at higher rates not all are.
const LOOKED_FOR_A_SECOND: u64 = 100;
const GIVE_UP: Duration = Duration::from_secs(10);

pub(crate) async fn run(quick: bool, report: &mut Report) -> anyhow::Result<()> {
    let (rounds, seconds) = if quick { (1, 5) } else { (3, 20) };
    let stack = Stack::new().await?;
    let users = stack.start("user-service", &["serve"]);
    let notifications = stack.start("notification-service", &["serve"]);
    let (users, notifications) = (ready(&users).await?, ready(&notifications).await?);
    let rates: [u64; 3] = [100, 500, 2000];
    let mut figures = vec![[vec![], vec![], vec![], vec![]]; rates.len()];
    write_steadily(users, notifications, 100, 2).await?;
    for _ in 0..rounds {
        for (rate, figures) in rates.iter().zip(&mut figures) {
            let started = Instant::now();
            let mut latencies = write_steadily(users, notifications, *rate, seconds).await?;
            figures[0].push((rate * seconds) as f64 / started.elapsed().as_secs_f64());
            figures[1].push(percentile(&mut latencies, 0.5));
            figures[2].push(percentile(&mut latencies, 0.99));
            figures[3].push(percentile(&mut latencies, 0.999));
        }
    }
    for (rate, [reached, p50, p99, p999]) in rates.iter().zip(&figures) {
        report.add(format!("writes reached of {rate}/s"), "/s", reached);
        report.add(format!("201 to visible at {rate}/s, p50"), "ms", p50);
        report.add(format!("201 to visible at {rate}/s, p99"), "ms", p99);
        report.add(format!("201 to visible at {rate}/s, p99.9"), "ms", p999);
    }
    Ok(())
}

/// Writes at the rate for so many seconds; the milliseconds from 201 to visible of those looked
/// for. A write that is due while all connections are busy waits, and the rate suffers.
async fn write_steadily(
    users: SocketAddr,
    notifications: SocketAddr,
    rate: u64,
    seconds: u64,
) -> anyhow::Result<Vec<f64>> {
    const CONNECTIONS: usize = 32;
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS {
        idle.push((
            Connection::open(users).await?,
            Connection::open(notifications).await?,
        ));
    }
    let every = (rate / LOOKED_FOR_A_SECOND).max(1);
    let run = unique("e");
    let mut busy = FuturesUnordered::new();
    let mut latencies = Vec::new();
    let mut clock = interval(Duration::from_secs(1) / u32::try_from(rate)?);
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0..rate * seconds {
        clock.tick().await;
        let connections = match idle.pop() {
            Some(connections) => connections,
            None => finish(&mut busy, &mut latencies).await?,
        };
        let email = format!("{run}.{number}@example.com");
        let look = number % every == 0;
        busy.push(tokio::spawn(write_and_look(connections, email, look)));
        while let Some(done) = futures::FutureExt::now_or_never(busy.next()).flatten() {
            let (connections, latency) = done??;
            idle.push(connections);
            latencies.extend(latency);
        }
    }
    while !busy.is_empty() {
        finish(&mut busy, &mut latencies).await?;
    }
    Ok(latencies)
}

type Connections = (Connection, Connection);
type Writing = tokio::task::JoinHandle<anyhow::Result<(Connections, Option<f64>)>>;

async fn finish(
    busy: &mut FuturesUnordered<Writing>,
    latencies: &mut Vec<f64>,
) -> anyhow::Result<Connections> {
    let done = busy.next().await.context("a write under way")?;
    let (connections, latency) = done??;
    latencies.extend(latency);
    Ok(connections)
}

async fn write_and_look(
    (mut users, mut notifications): Connections,
    email: String,
    look: bool,
) -> anyhow::Result<(Connections, Option<f64>)> {
    let created = users.create_user(&email).await?;
    let answered = Instant::now();
    if !look {
        return Ok(((users, notifications), None));
    }
    let created: Value = serde_json::from_slice(&created)?;
    let path = format!("/notifications/user/{}", created["id"]);
    while notifications.get(&path).await?.status != 200 {
        ensure!(
            answered.elapsed() < GIVE_UP,
            "{path} is not there after {GIVE_UP:?}"
        );
    }
    let latency = answered.elapsed().as_secs_f64() * 1000.0;
    Ok(((users, notifications), Some(latency)))
}
