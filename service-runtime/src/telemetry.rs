//! Logs: readable on a terminal, one JSON object a line elsewhere.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// The driver repeats what we log ourselves about its connection.
const DEFAULT_FILTER: &str = "info,async_nats=warn";

/// Starts logging to standard output; `RUST_LOG` chooses what is logged (default `info`).
///
/// # Panics
/// If logging was started before in this process.
pub fn init() {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let logs = tracing_subscriber::fmt().with_env_filter(filter);
    if std::io::stdout().is_terminal() {
        logs.with_target(false).init();
    } else {
        logs.json().flatten_event(true).init();
    }
}
