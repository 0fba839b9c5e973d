//! The relay as a program of its own, for producers in any language.

mod cli;
mod run;
mod status;

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Parser;
use outbox::{
    admin,
    parked::{self, Decision},
};
use postgres_pool::{Pool, STATEMENT_TIMEOUT};
use service_runtime::{telemetry, terminal::confirm};

use self::cli::{Cli, Command};

/// Of `status`, if something needs attention. (2 is a wrong command line.)
const NEEDS_ATTENTION: u8 = 3;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Run(_) | Command::Migrate => telemetry::init(),
        _ => telemetry::init_for_command(),
    }
    match execute(cli).await {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "outbox-relay failed");
            ExitCode::FAILURE
        }
    }
}

async fn execute(Cli { database, command }: Cli) -> anyhow::Result<ExitCode> {
    let database = database.database()?;
    let pool = || postgres_pool::pool(&database, 1, STATEMENT_TIMEOUT);
    match command {
        Command::Run(config) => run::run(&database, *config).await?,
        Command::Migrate => outbox::migrate(&database).await?,
        Command::Status(config) => {
            if !status::show(&pool()?, config.max_age).await? {
                return Ok(ExitCode::from(NEEDS_ATTENTION));
            }
        }
        Command::Admin(command) => admin::run(&pool()?, command).await?,
        Command::Retry { id, out_of_order } => retry(&pool()?, id, out_of_order).await?,
        Command::Forget { stream, yes } => forget(&pool()?, &stream, yes).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Only the producer knows whether a later event makes this one wrong, so the operator has to decide.
async fn retry(pool: &Pool, id: i64, out_of_order: bool) -> anyhow::Result<()> {
    match out_of_order {
        true => admin::retry(pool, id, async |_, _| Ok(Decision::Requeue)).await,
        false => admin::retry(pool, id, parked::refuse_out_of_order).await,
    }
}

async fn forget(pool: &Pool, stream: &str, yes: bool) -> anyhow::Result<()> {
    let streams = outbox::status::streams(pool, 1).await?;
    let found = streams.iter().find(|it| it.stream == stream);
    let found = found.with_context(|| format!("no relay has published to a stream {stream}"))?;
    if found.is_configured && outbox::status::relay(pool).await?.is_active {
        bail!(
            "the active relay publishes to {stream}: remove its routes, start the relay once without \
             them, then forget it"
        );
    }
    let consequence = match found.is_configured {
        true => {
            "The last relay published to it: it will be published again from the beginning of the \
             ledger if a relay routes to it again."
        }
        false => {
            "What is pending for it will not be published. It will be published again from the \
             beginning of the ledger if a relay routes to it again."
        }
    };
    if !yes && !confirm(&format!("Forget stream {stream}? {consequence}"))? {
        bail!("nothing was forgotten");
    }
    outbox::inspect::forget(pool, stream).await?;
    println!("stream {stream} is forgotten. {consequence}");
    Ok(())
}
