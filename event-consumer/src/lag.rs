//! How far the handler is behind the stream.

use std::time::Duration;

use anyhow::{bail, ensure};
use async_nats::jetstream::Context;
use service_runtime::{
    nats::{ConsumerName, Topic},
    progress::Progress,
};
use time::OffsetDateTime;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{Connection, raw_message};

/// A figure that is older than this says only how it was then.
const STALE: Duration = Duration::from_secs(5);

/// The age of the oldest message on the stream that is not settled yet; zero if all are. Knows
/// nothing of messages that have not reached the stream.
#[derive(Debug, Clone)]
pub struct Lag(watch::Sender<Option<Sample>>);

#[derive(Debug, Clone, Copy)]
struct Sample {
    lag: Duration,
    taken: Instant,
}

impl Default for Lag {
    fn default() -> Self {
        Self::new()
    }
}

impl Lag {
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// `None` until it was found out for the first time. While NATS can't be asked, it grows from
    /// the last answer: there may be messages that nobody knows of.
    #[must_use]
    pub fn current(&self) -> Option<Duration> {
        let sample = (*self.0.borrow())?;
        let age = sample.taken.elapsed();
        Some(if age > STALE {
            sample.lag + age
        } else {
            sample.lag
        })
    }

    /// # Errors
    /// If it exceeds `limit`, or is not known.
    pub fn check(&self, limit: Duration) -> anyhow::Result<()> {
        match self.current() {
            None => bail!("the lag is not known yet"),
            Some(lag) => ensure!(lag <= limit, "it is {lag:?} behind the stream"),
        }
        Ok(())
    }

    /// Finds it out once a second, so that no request has to wait for it.
    ///
    /// # Errors
    /// Never: it has the form of a task.
    pub async fn observe(
        self,
        connection: Connection,
        topic: Topic,
        consumer: ConsumerName,
        progress: Progress,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let (lag, topic, consumer) = (&self, &topic, &consumer);
        let measure = |jetstream| async move {
            let taken = Instant::now();
            let measured = measure(&jetstream, topic, consumer).await?;
            lag.0.send_replace(Some(Sample {
                lag: measured,
                taken,
            }));
            Ok(())
        };
        connection
            .observe("lag", &progress, &shutdown, measure)
            .await;
        Ok(())
    }
}

async fn measure(
    jetstream: &Context,
    topic: &Topic,
    name: &ConsumerName,
) -> anyhow::Result<Duration> {
    let stream = jetstream.get_stream_no_info(&topic.stream).await?;
    let consumer = stream.consumer_info(name.as_str()).await?;
    if consumer.num_pending == 0 && consumer.num_ack_pending == 0 {
        return Ok(Duration::ZERO);
    }
    let behind = consumer.ack_floor.stream_sequence + 1;
    let subjects = name.reads(topic);
    let oldest = raw_message::next_of_any(jetstream, &topic.stream, &subjects, behind).await?;
    let Some(oldest) = oldest else {
        return Ok(Duration::ZERO);
    };
    // The two clocks may differ by a little.
    let lag = OffsetDateTime::now_utc() - oldest.time;
    Ok(lag.try_into().unwrap_or_default())
}
