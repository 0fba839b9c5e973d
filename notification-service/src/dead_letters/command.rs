//! `notification-service dead-letters list | show | replay | discard`

use std::time::Duration;

use anyhow::Context;
use async_nats::jetstream;
use event_consumer::dead_letters::DeadLetters;
use service_runtime::nats;
use tokio::time;

use crate::config::DeadLettersConfig;

const CONNECTION_NAME: &str = "notification-service dead-letters";
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// Does what the operator asked for, and says so on standard output.
///
/// # Errors
/// If NATS can't be reached, there is no such letter, or the operator says no.
pub(crate) async fn run(config: DeadLettersConfig) -> anyhow::Result<()> {
    let client = nats::connect(&config.nats.connection, CONNECTION_NAME);
    let client = time::timeout(CONNECT_DEADLINE, client)
        .await
        .context("NATS can't be reached")??;
    let letters = DeadLetters::new(jetstream::new(client), config.nats.topic());
    config.command.run(&letters).await
}
