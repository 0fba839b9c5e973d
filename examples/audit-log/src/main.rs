use std::process::ExitCode;

use audit_log::{
    app,
    config::{Cli, Command},
};
use clap::Parser;
use service_runtime::{health, telemetry};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Serve(_) => telemetry::init(),
        Command::DeadLetters(_) | Command::Health(_) => telemetry::init_for_command(),
    }
    let outcome = match cli.command {
        Command::Serve(config) => app::serve(*config).await,
        Command::DeadLetters(config) => app::dead_letters(*config).await,
        Command::Health(config) => health::probe(config.listen_addr).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "audit-log failed");
            ExitCode::FAILURE
        }
    }
}
