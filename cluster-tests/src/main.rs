//! Loses each process of a running cluster in turn while clients write at a steady rate. After each
//! fault every acknowledged write must be there, the copy must come to agree without a repair, and all
//! members must be ready again. `scripts/cluster test` starts a cluster and runs this on it.

mod clients;
mod copy;
mod history;
mod measure;
mod report;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, bail, ensure};
use clap::Parser;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};

use cluster_tests::{
    cluster::Cluster,
    faults::{self, Fault},
};

use crate::{clients::Clients, history::History, report::Report};

#[derive(Debug, Parser)]
#[command(about = "Loses each process of a cluster in turn while clients write")]
struct Arguments {
    /// Names of faults; all unless given (see --list)
    faults: Vec<String>,
    /// Print the names of the faults
    #[arg(long)]
    list: bool,
    /// Times that each fault is tried
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Writes a second, of all clients together
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=5000))]
    rate: u32,
    /// Directory that the cluster was started with
    #[arg(long, env = "STATE_DIR")]
    state_dir: PathBuf,
    /// The script that starts members again
    #[arg(long, env = "CLUSTER", default_value = "scripts/cluster")]
    cluster: PathBuf,
}

/// A fault that is not over by then is a failure.
const RECOVERY_DEADLINE: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if arguments.list {
        for fault in faults::all() {
            println!("{}", fault.name);
        }
        return Ok(());
    }
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    tokio::select! {
        outcome = try_all(arguments) => outcome,
        // What was stopped goes on when the fault at hand is dropped.
        _ = interrupts.recv() => bail!("interrupted"),
        _ = terminations.recv() => bail!("terminated"),
    }
}

async fn try_all(arguments: Arguments) -> anyhow::Result<()> {
    let cluster = Arc::new(Cluster::open(&arguments.state_dir, &arguments.cluster).await?);
    let mut report = Report::default();
    // What was acknowledged before an earlier fault must hold as well.
    let mut history = History::default();
    for _ in 0..arguments.rounds {
        for fault in chosen(&arguments.faults)? {
            let outcome = try_fault(&cluster, &fault, arguments.rate, &mut history).await;
            report.add(fault.name, outcome);
        }
    }
    report.print();
    ensure!(
        report.failures() == 0,
        "{} faults failed",
        report.failures()
    );
    Ok(())
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<Fault>> {
    let all = faults::all();
    for name in names {
        let known = all.iter().any(|fault| fault.name == name);
        ensure!(known, "there is no fault {name:?}; --list shows all");
    }
    let wanted = |fault: &Fault| names.is_empty() || names.iter().any(|name| name == fault.name);
    Ok(all.into_iter().filter(wanted).collect())
}

/// One fault, from the first write to the last check.
async fn try_fault(
    cluster: &Arc<Cluster>,
    fault: &Fault,
    rate: u32,
    history: &mut History,
) -> anyhow::Result<measure::Recovery> {
    cluster
        .ready(RECOVERY_DEADLINE)
        .await
        .context("before the fault")?;
    let clients = Clients::start(cluster, rate);
    let copies = copy::Probe::start(Arc::clone(cluster));
    sleep(Duration::from_secs(3)).await;

    let begin = Instant::now();
    let ready_after = suffer(cluster, fault, &clients, &copies, begin).await;
    let looks = copies.stop().await;
    let (users, writes) = clients.stop().await;
    let doubtful = users.iter().filter(|user| user.is_doubtful).count();
    history.users.extend(users);
    let (ready_after, writes) = (ready_after?, writes?);

    let recovery = measure::Recovery::of(begin, &writes, &looks, ready_after, doubtful);
    history.check(cluster).await?;
    cluster.verify().await?;
    Ok(recovery)
}

/// The fault and its end; how long it took then until all members were ready.
async fn suffer(
    cluster: &Arc<Cluster>,
    fault: &Fault,
    clients: &Clients,
    copies: &copy::Probe,
    begin: Instant,
) -> anyhow::Result<Duration> {
    let damage = (fault.strike)(Arc::clone(cluster))
        .await
        .context("striking")?;
    let calm = measure::until_calm(clients, copies, begin, damage.at_least).await;
    let mended = Instant::now();
    damage.mend(cluster).await.context("mending")?;
    let ready = cluster.ready(RECOVERY_DEADLINE).await;
    let ready_after = mended.elapsed();
    // Members that come back must not cost anything either.
    sleep(Duration::from_secs(3)).await;
    calm?;
    ready.context("after the fault")?;
    Ok(ready_after)
}
