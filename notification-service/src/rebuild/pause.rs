//! Holding the projector still while the collections change places.

use std::time::Duration;

use anyhow::ensure;
use async_nats::jetstream::stream::{ConsumerErrorKind, Stream};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};

/// The server ends the pause by itself after that, should nobody be left to end it.
const LONGEST: Duration = Duration::from_secs(10);
/// How long what was delivered may take to be settled.
const SETTLE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Stops deliveries to the projector, and waits until what it has in hand is settled. False if
/// there is no such consumer, hence nobody to hold still.
pub(super) async fn pause(stream: &Stream, consumer: &str) -> anyhow::Result<bool> {
    let until = OffsetDateTime::now_utc() + LONGEST;
    match stream.pause_consumer(consumer, until).await {
        Err(error) if is_missing(error.kind()) => return Ok(false),
        outcome => ensure!(outcome?.paused, "the consumer was not paused"),
    }
    let deadline = Instant::now() + SETTLE;
    while stream.consumer_info(consumer).await?.num_ack_pending > 0 {
        ensure!(
            Instant::now() < deadline,
            "the projector did not settle what it has in hand"
        );
        sleep(LOOK_AGAIN).await;
    }
    Ok(true)
}

/// The server may wait for the next event, or the next request of the projector, before it delivers
/// again. Meanwhile nobody misses anything: the rebuild itself applies what came.
pub(super) async fn resume(stream: &Stream, consumer: &str) -> anyhow::Result<()> {
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
