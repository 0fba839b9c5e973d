//! What open feeds of the outbox cost, idle and while users are written.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::ensure;
use testkit::{Service, unique};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use crate::{
    cpu::used_by,
    http::Connection,
    report::Report,
    stack::{Stack, ready},
};

/// Of one client address; the service allows 64.
const FEEDS: usize = 50;
const WRITES_PER_SECOND: u32 = 200;
/// Until the feeds have begun, and what came before has ended.
const SETTLE: Duration = Duration::from_secs(3);
const REPORTED: Duration = Duration::from_secs(1);

/// What was used in a second.
#[derive(Debug, Clone, Copy)]
struct Cost {
    cpu_percent: f64,
    transactions: f64,
    bytes: f64,
}

pub(crate) async fn run(quick: bool, report: &mut Report) -> anyhow::Result<()> {
    let (rounds, seconds) = if quick { (1, 5) } else { (3, 20) };
    // Without feeds first: a source goes on for a while after its last follower has gone.
    for feeds in [0, FEEDS] {
        let stack = Stack::new().await?;
        let service = stack.start("user-service", &["serve"]);
        let address = ready(&service).await?;
        let (bytes, _following) = follow(address, feeds).await?;
        for rate in [0, WRITES_PER_SECOND] {
            let mut costs = Vec::new();
            for _ in 0..rounds {
                costs.push(measure(&stack, &service, address, rate, seconds, &bytes).await?);
            }
            add(report, feeds, rate, &costs);
        }
    }
    Ok(())
}

fn add(report: &mut Report, feeds: usize, rate: u32, costs: &[Cost]) {
    let each = |of: fn(&Cost) -> f64| -> Vec<f64> { costs.iter().map(of).collect() };
    let what = format!("{feeds} feeds, {rate} writes/s");
    report.add(
        format!("{what}: service, of a core"),
        "%",
        &each(|it| it.cpu_percent),
    );
    report.add(
        format!("{what}: transactions"),
        "/s",
        &each(|it| it.transactions),
    );
    if feeds > 0 {
        let bytes = each(|it| it.bytes / 1_000.0 / FEEDS as f64);
        report.add(format!("{what}: to each feed"), "kB/s", &bytes);
    }
}

/// Counts what the feeds send, for as long as the tasks are there.
async fn follow(
    address: SocketAddr,
    feeds: usize,
) -> anyhow::Result<(Arc<AtomicU64>, JoinSet<()>)> {
    let bytes = Arc::new(AtomicU64::new(0));
    let mut following = JoinSet::new();
    for _ in 0..feeds {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET /outbox/stream HTTP/1.1\r\nhost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let bytes = Arc::clone(&bytes);
        following.spawn(async move {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                bytes.fetch_add(length as u64, Ordering::Relaxed);
            }
        });
    }
    Ok((bytes, following))
}

async fn measure(
    stack: &Stack,
    service: &Service,
    address: SocketAddr,
    rate: u32,
    seconds: u64,
    bytes: &AtomicU64,
) -> anyhow::Result<Cost> {
    sleep(SETTLE).await;
    let pid = service.process.id().to_string();
    let before = (
        used_by(&pid),
        transactions(stack).await?,
        bytes.load(Ordering::Relaxed),
    );
    let started = Instant::now();
    if rate == 0 {
        sleep(Duration::from_secs(seconds)).await;
    } else {
        write(address, rate, seconds).await?;
    }
    let elapsed = started.elapsed().as_secs_f64();
    let (used, sent) = (
        used_by(&pid) - before.0,
        bytes.load(Ordering::Relaxed) - before.2,
    );
    ensure!(
        elapsed < 1.1 * seconds as f64,
        "{rate} writes a second were not reached"
    );
    // Sessions report what they have done once a second.
    sleep(REPORTED).await;
    Ok(Cost {
        cpu_percent: 100.0 * used / elapsed,
        transactions: (transactions(stack).await? - before.1) as f64
            / (elapsed + REPORTED.as_secs_f64()),
        bytes: sent as f64 / elapsed,
    })
}

/// That were committed, most of them of one statement.
async fn transactions(stack: &Stack) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "select xact_commit from pg_stat_database where datname = current_database()",
    )
    .fetch_one(stack.pool())
    .await
}

async fn write(address: SocketAddr, rate: u32, seconds: u64) -> anyhow::Result<()> {
    let mut connection = Connection::open(address).await?;
    let run = unique("l");
    let mut clock = interval(Duration::from_secs(1) / rate);
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0..u64::from(rate) * seconds {
        clock.tick().await;
        let email = format!("{run}.{number}@example.com");
        connection.create_user(&email).await?;
    }
    Ok(())
}
