//! Benchmarks: each figure beside its limit, measured in the same run on the same servers, the
//! contestants in turn. Run them with `scripts/bench`, which starts the servers.

mod cpu;
mod end_to_end;
mod http;
mod import;
mod live;
mod overhead;
mod read_side;
mod relay;
mod report;
mod stack;
mod verification;
mod wake_up;
mod write;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::report::Report;

#[derive(Debug, Parser)]
struct Arguments {
    bench: Bench,
    /// Smaller and fewer rounds: ends within a minute
    #[arg(long)]
    quick: bool,
    /// Also write the results to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Bench {
    /// The relay draining a full outbox, beside JetStream alone and Postgres alone
    Relay,
    /// POST /users, beside pgbench with the same statement
    Write,
    /// POST /users/import, beside COPY into the same tables
    Import,
    /// The projector draining a full stream and reads of the copy, beside MongoDB and JetStream alone
    ReadSide,
    /// From the answer of a write to its visible copy
    EndToEnd,
    /// From the commit of an event in plain SQL to a subscriber, and what an idle relay costs
    WakeUp,
    /// Writes, the relay and the projector with and without metrics
    Overhead,
    /// What 50 open feeds of the outbox cost, idle and at 200 writes a second
    Live,
    /// Comparing all users with their copies in the background, beside counting them on both sides
    Verification,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { bench, quick, json } = Arguments::parse();
    let mut report = Report::new(
        bench
            .to_possible_value()
            .map_or_else(String::new, |it| it.get_name().to_owned()),
    );
    match bench {
        Bench::Relay => relay::run(quick, &mut report).await?,
        Bench::Write => write::run(quick, &mut report).await?,
        Bench::Import => import::run(quick, &mut report).await?,
        Bench::ReadSide => read_side::run(quick, &mut report).await?,
        Bench::EndToEnd => end_to_end::run(quick, &mut report).await?,
        Bench::WakeUp => wake_up::run(quick, &mut report).await?,
        Bench::Overhead => overhead::run(quick, &mut report).await?,
        Bench::Live => live::run(quick, &mut report).await?,
        Bench::Verification => verification::run(quick, &mut report).await?,
    }
    report.print();
    if let Some(path) = json {
        report.write(&path)?;
    }
    Ok(())
}
