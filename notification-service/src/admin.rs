//! What an operator does from the command line.

use crate::{config::DeadLettersConfig, dead_letters};

/// Lists, shows, replays and discards dead letters.
///
/// # Errors
/// If NATS can't be reached, or there is no such letter.
pub async fn dead_letters(config: DeadLettersConfig) -> anyhow::Result<()> {
    dead_letters::command::run(config).await
}
