//! What an operator does from the command line.

use crate::{
    config::{DeadLettersConfig, RebuildConfig, VerifyConfig},
    rebuild, verify,
};

/// Lists, shows, replays and discards dead letters.
///
/// # Errors
/// If NATS can't be reached, or there is no such letter.
pub async fn dead_letters(config: DeadLettersConfig) -> anyhow::Result<()> {
    let nats = config.nats;
    let run = (config.command).run(&nats.connection, nats.topic(), nats.consumer.clone());
    run.await
}

/// Makes the copy anew.
///
/// # Errors
/// If a server can't be reached, or the stream does not hold all that is needed.
pub async fn rebuild(config: RebuildConfig) -> anyhow::Result<()> {
    rebuild::run(config).await
}

/// Compares the copy with the users.
///
/// # Errors
/// If they differ, or one of the services does not answer.
pub async fn verify(config: VerifyConfig) -> anyhow::Result<()> {
    verify::run(config).await
}
