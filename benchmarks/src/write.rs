//! POST /users beside pgbench, which runs the same statement with as many clients.

use std::{env, fs, net::SocketAddr, process::Stdio, time::Duration};

use anyhow::{Context, ensure};
use percent_encoding::percent_decode_str;
use testkit::unique;
use tokio::{process::Command, time::Instant};
use url::Url;

use crate::{
    cpu::{CpuTimes, Generator},
    http::Connection,
    report::{Report, percentile},
    stack::{Stack, ready},
};

const STATEMENT: &str = include_str!("../../user-service/src/users/create.sql");

#[derive(Default)]
pub(crate) struct Rates {
    pub(crate) raw: Vec<f64>,
    /// As if the load generator had cost nothing.
    adjusted: Vec<f64>,
}

pub(crate) async fn run(quick: bool, report: &mut Report) -> anyhow::Result<()> {
    let (rounds, duration) = if quick { (1, 2) } else { (5, 5) };
    let duration = Duration::from_secs(duration);
    let stack = Stack::new().await?;
    let alone = stack.start("user-service", &["serve", "--no-relay"]);
    let alone_address = ready(&alone).await?;
    let with_relay = Stack::new().await?;
    let relayed = with_relay.start("user-service", &["serve"]);
    let relayed_address = ready(&relayed).await?;
    let script = pgbench_script()?;

    for clients in [1, 8, 32, 64] {
        let (mut limit, mut api, mut both) = (Rates::default(), Rates::default(), Rates::default());
        let mut latencies = Vec::new();
        for _ in 0..rounds {
            pgbench(&stack, script.path(), clients, duration, &mut limit).await?;
            post(alone_address, clients, duration, &mut api, &mut latencies).await?;
            post(
                relayed_address,
                clients,
                duration,
                &mut both,
                &mut Vec::new(),
            )
            .await?;
            // What it left behind must not run into the next contestant's turn.
            with_relay.drained().await;
        }
        let name = |what: &str| format!("{what}, {clients} clients");
        report.add(name("pgbench"), "/s", &limit.raw);
        report.add_beside(name("POST"), "/s", &api.raw, ("pgbench", &limit.raw));
        report.add_beside(
            name("POST, generators' CPU taken out"),
            "/s",
            &api.adjusted,
            ("pgbench, likewise", &limit.adjusted),
        );
        report.add_beside(
            name("POST with the relay inside"),
            "/s",
            &both.raw,
            ("pgbench", &limit.raw),
        );
        report.add(name("POST p50"), "ms", &[percentile(&mut latencies, 0.5)]);
        report.add(name("POST p99"), "ms", &[percentile(&mut latencies, 0.99)]);
    }
    Ok(())
}

pub(crate) async fn post(
    address: SocketAddr,
    clients: usize,
    duration: Duration,
    rates: &mut Rates,
    latencies: &mut Vec<f64>,
) -> anyhow::Result<()> {
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(Connection::open(address).await?);
    }
    let before = CpuTimes::now();
    let started = Instant::now();
    let clients = connections
        .into_iter()
        .map(|connection| tokio::spawn(write_until(connection, started + duration)));
    let mut written = 0;
    for client in futures::future::join_all(clients).await {
        let client = client??;
        written += client.len();
        latencies.extend(client);
    }
    let rate = written as f64 / started.elapsed().as_secs_f64();
    rates.raw.push(rate);
    rates
        .adjusted
        .push(rate * before.without_generator(Generator::Own));
    Ok(())
}

/// The milliseconds of each request.
async fn write_until(mut connection: Connection, end: Instant) -> anyhow::Result<Vec<f64>> {
    let client = unique("c");
    let mut latencies = Vec::new();
    while Instant::now() < end {
        let started = Instant::now();
        let email = format!("{client}.{}@example.com", latencies.len());
        connection.create_user(&email).await?;
        latencies.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(latencies)
}

/// The statement with pgbench's values for its parameters.
fn pgbench_script() -> anyhow::Result<tempfile::NamedTempFile> {
    let statement = STATEMENT
        .replace("$1", "array[gen_random_uuid()]")
        .replace("$2", "array[null]")
        .replace("$3", "array['Ada Lovelace']")
        .replace("$4", "array['c' || :number || '@example.com']")
        .replace("$5", "array['c' || :number || '@example.com']");
    let script = format!(
        "\\set number random(1, 9000000000000000000)\n{};\n",
        statement.trim()
    );
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), script)?;
    Ok(file)
}

async fn pgbench(
    stack: &Stack,
    script: &std::path::Path,
    clients: usize,
    duration: Duration,
    rates: &mut Rates,
) -> anyhow::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "scripts/bench has found it")]
    let program = env::var("PGBENCH").unwrap_or_else(|_| "pgbench".to_owned());
    // Passwords go by the environment: arguments are for everyone to see.
    let mut server = Url::parse(&stack.postgres.url)?;
    let password = percent_decode_str(server.password().unwrap_or_default());
    let password = password.decode_utf8()?.into_owned();
    server.set_password(None).ok().context("a server")?;
    // The driver's own parameters mean nothing to pgbench.
    server.set_query(None);
    let before = CpuTimes::now();
    let output = Command::new(program)
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=2"])
        .arg(format!("--client={clients}"))
        .arg(format!("--time={}", duration.as_secs()))
        .arg("--file")
        .arg(script)
        .arg(server.as_str())
        .env("PGPASSWORD", password)
        .stdin(Stdio::null())
        .output()
        .await
        .context("pgbench was not found: set PGBENCH")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let output = String::from_utf8(output.stdout)?;
    let rate = (output.lines())
        .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next())
        .context("pgbench said no rate")?;
    let rate: f64 = rate.parse()?;
    rates.raw.push(rate);
    rates
        .adjusted
        .push(rate * before.without_generator(Generator::Child));
    Ok(())
}
