use std::process::ExitCode;

use clap::Parser;
use service_runtime::{health, telemetry};
use user_service::{
    admin, app,
    config::{Cli, Command},
};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Serve(_) | Command::Relay(_) | Command::Migrate(_) => telemetry::init(),
        Command::Outbox(_) | Command::Republish(_) | Command::Health(_) => {
            telemetry::init_for_command();
        }
    }
    let outcome = match cli.command {
        Command::Serve(config) => app::serve(*config).await,
        Command::Relay(config) => app::relay(*config).await,
        Command::Migrate(config) => app::migrate(config).await,
        Command::Outbox(config) => admin::outbox(config).await,
        Command::Republish(config) => admin::republish(config).await,
        Command::Health(config) => health::probe(config.listen_addr).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "user-service failed");
            ExitCode::FAILURE
        }
    }
}
