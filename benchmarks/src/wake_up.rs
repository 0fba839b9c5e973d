//! From the commit of an event in plain SQL, of which nobody tells the relay, to a subscriber; and what
//! an idle relay costs.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures::StreamExt;
use sqlx::{Connection, PgConnection};
use testkit::{Service, nats};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    cpu::used_by,
    report::{Report, percentile},
    stack::{Stack, ready},
};

/// Between two events, so that each finds an idle relay. No multiple of its waits.
const PAUSE: Duration = Duration::from_millis(23);
/// Until the relay looks as rarely as it ever does.
const UNTIL_IDLE: Duration = Duration::from_secs(3);
const GIVE_UP: Duration = Duration::from_secs(10);
const APPEND: &str = "select outbox.append('user', '1', 'user_updated', '{}')";

pub(crate) async fn run(quick: bool, report: &mut Report) -> anyhow::Result<()> {
    let (rounds, events) = if quick { (1, 300) } else { (3, 2000) };
    let stack = Stack::new().await?;
    let relay = stack.start("user-service", &["relay"]);
    ready(&relay).await?;
    let (mut p50, mut p99) = (vec![], vec![]);
    let (mut relay_idle, mut waiting_idle) = (vec![], vec![]);
    for _ in 0..rounds {
        let mut latencies = append_one_by_one(&stack, events).await?;
        p50.push(percentile(&mut latencies, 0.5));
        p99.push(percentile(&mut latencies, 0.99));
        let (relay, waiting) = cost_of_idling(&stack, &relay, quick).await?;
        relay_idle.push(relay);
        waiting_idle.push(waiting);
    }
    report.add("commit in plain SQL to subscriber, p50", "ms", &p50);
    report.add("commit in plain SQL to subscriber, p99", "ms", &p99);
    report.add("idle relay, processor time of a core", "%", &relay_idle);
    report.add("its backends in Postgres, of a core", "%", &waiting_idle);
    Ok(())
}

/// The milliseconds that each event took.
async fn append_one_by_one(stack: &Stack, events: usize) -> anyhow::Result<Vec<f64>> {
    let client = async_nats::connect(nats::shared_url()).await?;
    let mut subscription = client.subscribe(stack.subject.clone()).await?;
    client.flush().await?;
    let mut producer = PgConnection::connect(&stack.postgres.url).await?;
    let mut latencies = Vec::with_capacity(events);
    for _ in 0..events {
        sqlx::query(APPEND).execute(&mut producer).await?;
        let committed = Instant::now();
        let received = timeout(GIVE_UP, subscription.next()).await?;
        received.context("a message")?;
        latencies.push(committed.elapsed().as_secs_f64() * 1000.0);
        sleep(PAUSE).await;
    }
    Ok(latencies)
}

/// Per cent of a core that the relay uses, and its sessions in Postgres.
async fn cost_of_idling(stack: &Stack, relay: &Service, quick: bool) -> anyhow::Result<(f64, f64)> {
    let seconds = if quick { 5 } else { 20 };
    sleep(UNTIL_IDLE).await;
    // From their pids; a session that is replaced meanwhile is not counted.
    let sessions: Vec<i32> = sqlx::query_scalar(
        "select pid from pg_stat_activity
         where datname = current_database() and application_name = 'user-service'",
    )
    .fetch_all(stack.pool())
    .await?;
    ensure!(!sessions.is_empty(), "the relay has no session");
    let relay = relay.process.id().to_string();
    let used_by_sessions = || -> f64 { sessions.iter().map(|pid| used_by(&pid.to_string())).sum() };
    let (relay_before, sessions_before) = (used_by(&relay), used_by_sessions());
    sleep(Duration::from_secs(seconds)).await;
    let per_cent = |used: f64| 100.0 * used / seconds as f64;
    Ok((
        per_cent(used_by(&relay) - relay_before),
        per_cent(used_by_sessions() - sessions_before),
    ))
}
