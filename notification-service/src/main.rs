use std::process::ExitCode;

use clap::Parser;
use notification_service::{
    app,
    config::{Cli, Command},
};
use service_runtime::{health, telemetry};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    telemetry::init();
    let outcome = match cli.command {
        Command::Serve(config) => app::serve(config).await,
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
