//! Holding a consumer still for a moment, for example while what it writes to is replaced.

use std::time::Duration;

use anyhow::ensure;
use async_nats::jetstream::{
    Context,
    stream::{ConsumerErrorKind, Stream},
};
use service_runtime::nats::stream::server_time;
use tokio::time::{Instant, sleep};

/// The server ends the pause by itself after that, should nobody be left to end it.
const LONGEST: Duration = Duration::from_secs(10);
/// How long what was delivered may take to be settled.
const SETTLE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Stops deliveries to all services that share the consumer, and waits until what they have in hand
/// is processed; at most five seconds. The server ends the pause after ten seconds by its own clock if nobody
/// else does; so does the next session of one of the services. False if there is no such consumer, hence nobody
/// to hold still.
///
/// # Errors
/// If JetStream does not answer, or what is in hand is not processed in time.
pub async fn pause(jetstream: &Context, stream: &Stream, consumer: &str) -> anyhow::Result<bool> {
    let until = server_time(jetstream, &stream.cached_info().config.name).await? + LONGEST;
    match stream.pause_consumer(consumer, until).await {
        Err(error) if is_missing(error.kind()) => return Ok(false),
        outcome => ensure!(outcome?.paused, "the consumer was not paused"),
    }
    let deadline = Instant::now() + SETTLE;
    while stream.consumer_info(consumer).await?.num_ack_pending > 0 {
        ensure!(
            Instant::now() < deadline,
            "the consumer did not process what it has in hand"
        );
        sleep(LOOK_AGAIN).await;
    }
    Ok(true)
}

/// Whether the pause lasts for so long from now, and nothing is in hand.
///
/// # Errors
/// If JetStream does not answer.
pub async fn lasts(stream: &Stream, consumer: &str, time: Duration) -> anyhow::Result<bool> {
    let info = stream.consumer_info(consumer).await?;
    let remaining = info.pause_remaining.unwrap_or_default();
    Ok(info.paused && remaining >= time && info.num_ack_pending == 0)
}

/// Ends the pause. The server may wait for the next message, or the next request of the consumer,
/// before it delivers again.
///
/// # Errors
/// If JetStream does not answer.
pub async fn resume(stream: &Stream, consumer: &str) -> anyhow::Result<()> {
    match stream.resume_consumer(consumer).await {
        Err(error) if is_missing(error.kind()) => Ok(()),
        outcome => Ok(outcome.map(drop)?),
    }
}

fn is_missing(kind: ConsumerErrorKind) -> bool {
    matches!(
        kind,
        ConsumerErrorKind::JetStream(error)
            if error.error_code() == async_nats::jetstream::ErrorCode::CONSUMER_NOT_FOUND
    )
}
