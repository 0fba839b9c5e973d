//! Injects faults, drawn from a seed, into a stack while clients write, and checks from outside, after
//! each round of faults, that nothing is lost. `scripts/chaos` builds and runs it.

mod arguments;
mod checks;
mod cluster;
mod endpoints;
mod faults;
mod history;
mod observers;
mod plan;
mod proof;
mod report;
mod rounds;
mod soak;
mod sources;
mod stack;
mod upgrade;
mod workload;

use std::{process::ExitCode, sync::Arc};

use clap::{Parser, ValueEnum};
use cluster_tests::cluster::Cluster;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    arguments::{Arguments, ClusterRun, Command, Run, Soak, Upgrade},
    plan::Kind,
    proof::Proof,
    report::Report,
    stack::{RECORDING, Stack},
};

/// More than there are processors: some of what faults do blocks its thread for a second.
#[tokio::main(worker_threads = 8)]
async fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().command {
        Command::Run(arguments) => strike_small_stack(&arguments).await,
        Command::Cluster(arguments) => strike_cluster(&arguments).await,
        Command::Soak(arguments) => soak(&arguments).await,
        Command::Upgrade(arguments) => upgrade(&arguments).await,
        Command::List => {
            list();
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn list() {
    for kind in Kind::value_variants() {
        let value = kind.to_possible_value();
        let help = value.and_then(|value| value.get_help().map(ToString::to_string));
        println!("{:20} {}", kind.name(), help.unwrap_or_default());
    }
}

async fn strike_small_stack(arguments: &Run) -> anyhow::Result<ExitCode> {
    let course = arguments.course.course();
    let kinds = arguments.kinds()?;
    println!("seed {}", course.seed);
    let logs = log_directory()?;
    let mut report = Report::of(course.seed);
    let running = async {
        let settings = match arguments.only_from_outside {
            true => &[],
            false => RECORDING,
        };
        let stack = Stack::start(&arguments.machine, logs.path(), settings).await?;
        let proof = Proof::start(&stack.endpoints, course.seed, arguments.load.rate).await?;
        let round = async |number, left| {
            let faults = plan::round(course.seed, number, &kinds, arguments.per_round, left);
            let mut round = rounds::round(&stack, &proof, &faults).await?;
            if !arguments.only_from_outside {
                round.violations.extend(stack.logs.violations()?);
            }
            Ok(round)
        };
        course.run(&mut report, round).await
    };
    let outcome = unless_interrupted(running).await;
    println!("{report}");
    Ok(end(outcome, report.violations(), Some(logs)))
}

async fn strike_cluster(arguments: &ClusterRun) -> anyhow::Result<ExitCode> {
    let course = arguments.course.course();
    println!("seed {}", course.seed);
    let mut report = Report::of(course.seed);
    let running = async {
        let cluster = Cluster::open(&arguments.state_dir, &arguments.cluster).await?;
        let cluster = Arc::new(cluster);
        let endpoints = cluster::endpoints(&cluster).await?;
        let proof = Proof::start(&endpoints, course.seed, arguments.load.rate).await?;
        let round = async |number, left| {
            let rng = plan::rng(course.seed, number);
            cluster::round(&cluster, &proof, rng, left).await
        };
        course.run(&mut report, round).await
    };
    let outcome = unless_interrupted(running).await;
    println!("{report}");
    Ok(end(outcome, report.violations(), None))
}

async fn soak(arguments: &Soak) -> anyhow::Result<ExitCode> {
    let logs = log_directory()?;
    let mut report = Report::of(arguments.seed);
    let running = async {
        let stack = Stack::start(&arguments.machine, logs.path(), soak::SETTINGS).await?;
        let proof = Proof::start(&stack.endpoints, arguments.seed, arguments.rate).await?;
        soak::run(&stack, &proof, arguments, &mut report).await
    };
    let outcome = unless_interrupted(running).await;
    println!("{report}");
    Ok(end(outcome, report.violations(), Some(logs)))
}

async fn upgrade(arguments: &Upgrade) -> anyhow::Result<ExitCode> {
    let logs = log_directory()?;
    let running = async {
        for order in upgrade::ORDERS {
            upgrade::update(arguments, logs.path(), order).await?;
        }
        Ok(())
    };
    let outcome = unless_interrupted(running).await;
    Ok(end(outcome, 0, Some(logs)))
}

/// Where all processes print to from now on.
fn log_directory() -> anyhow::Result<TempDir> {
    let logs = tempfile::Builder::new().prefix("chaos-logs.").tempdir()?;
    testkit::print_into(logs.path());
    Ok(logs)
}

/// `None` after Ctrl-C or SIGTERM. What was stopped goes on then, because the faults at hand are dropped.
async fn unless_interrupted(
    running: impl Future<Output = anyhow::Result<()>>,
) -> Option<anyhow::Result<()>> {
    let listen = |kind| signal(kind).expect("signals can be handled");
    let mut interrupts = listen(SignalKind::interrupt());
    let mut terminations = listen(SignalKind::terminate());
    tokio::select! {
        outcome = running => Some(outcome),
        _ = interrupts.recv() => None,
        _ = terminations.recv() => None,
    }
}

/// Logs are kept if something did not hold.
fn end(outcome: Option<anyhow::Result<()>>, violations: usize, logs: Option<TempDir>) -> ExitCode {
    const INTERRUPTED: u8 = 130;
    match outcome {
        Some(Ok(())) if violations == 0 => return ExitCode::SUCCESS,
        Some(_) => {}
        None => {
            println!("interrupted");
            return ExitCode::from(INTERRUPTED);
        }
    }
    if let Some(logs) = logs {
        println!("the logs of all processes are in {}", logs.keep().display());
    }
    if let Some(Err(error)) = outcome {
        println!("FAILED: {error:#}");
    }
    ExitCode::FAILURE
}
