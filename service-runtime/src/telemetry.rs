//! Logs: readable on a terminal, one JSON object a line elsewhere. And traces: spans of what is done for
//! a request, sent to a collector.

#[cfg(feature = "http")]
mod collector;
pub mod decisions;
#[cfg(feature = "http")]
mod export;
#[cfg(feature = "http")]
mod sampler;
pub mod spans;
pub mod trace_context;
#[cfg(feature = "http")]
mod trace_settings;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

#[cfg(feature = "http")]
pub use self::trace_settings::TraceSettings;

/// The driver repeats what we log ourselves about its connection.
const DEFAULT_FILTER: &str = "info,async_nats=warn";
const COMMAND_FILTER: &str = "warn";
/// These modules of the drivers log parts of connection strings and of `.pgpass`, and with them
/// passwords.
const WITHOUT_SECRETS: [&str; 2] = ["async_nats::connector=info", "sqlx_postgres::options=off"];

/// Starts logging to standard output; `RUST_LOG` chooses what is logged (default `info`).
///
/// # Panics
/// If logging was started before in this process.
pub fn init() {
    let logs = tracing_subscriber::fmt().with_env_filter(filter(DEFAULT_FILTER));
    if std::io::stdout().is_terminal() {
        logs.with_target(false).init();
    } else {
        logs.json().flatten_event(true).init();
    }
}

/// For a command that an operator runs: its answer has standard output to itself, and only what
/// went wrong is logged, to standard error.
///
/// # Panics
/// If logging was started before in this process.
pub fn init_for_command() {
    tracing_subscriber::fmt()
        .with_env_filter(filter(COMMAND_FILTER))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

fn filter(default: &str) -> EnvFilter {
    let chosen = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let directives = WITHOUT_SECRETS.map(|it| it.parse().expect("a directive"));
    directives
        .into_iter()
        .fold(chosen, EnvFilter::add_directive)
}
