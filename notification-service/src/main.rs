use std::process::ExitCode;

use clap::Parser;
use notification_service::{
    admin, app,
    config::{Cli, Command},
};
use service_runtime::{health, telemetry};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Serve(_) => telemetry::init(),
        Command::DeadLetters(_) | Command::Rebuild(_) | Command::Verify(_) | Command::Health(_) => {
            telemetry::init_for_command();
        }
    }
    let outcome = match cli.command {
        Command::Serve(config) => app::serve(*config).await,
        Command::DeadLetters(config) => admin::dead_letters(config).await,
        Command::Rebuild(config) => admin::rebuild(*config).await,
        Command::Verify(config) => admin::verify(config).await,
        Command::Health(config) => health::probe(config.listen_addr).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "notification-service failed");
            ExitCode::FAILURE
        }
    }
}
