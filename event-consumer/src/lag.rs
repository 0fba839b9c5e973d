//! How far the handler is behind the stream.

use std::time::Duration;

use anyhow::{bail, ensure};
use async_nats::jetstream::{Context, ErrorCode, response::Response as Answer};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::json;
use service_runtime::nats::Topic;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::Connection;

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
        consumer: String,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let (lag, topic, consumer) = (&self, &topic, consumer.as_str());
        let measure = |jetstream| async move {
            let taken = Instant::now();
            let measured = measure(&jetstream, topic, consumer).await?;
            lag.0.send_replace(Some(Sample {
                lag: measured,
                taken,
            }));
            Ok(())
        };
        connection.observe("lag", &shutdown, measure).await;
        Ok(())
    }
}

async fn measure(jetstream: &Context, topic: &Topic, consumer: &str) -> anyhow::Result<Duration> {
    let stream = jetstream.get_stream_no_info(&topic.stream).await?;
    let consumer = stream.consumer_info(consumer).await?;
    if consumer.num_pending == 0 && consumer.num_ack_pending == 0 {
        return Ok(Duration::ZERO);
    }
    let behind = consumer.ack_floor.stream_sequence + 1;
    let Some(time) = published(jetstream, topic, behind).await? else {
        return Ok(Duration::ZERO);
    };
    // The two clocks may differ by a little.
    Ok((Utc::now() - time).to_std().unwrap_or_default())
}

/// When the first message at `sequence` or behind it was published. Its headers are left alone,
/// since the client may not be able to read them.
async fn published(
    jetstream: &Context,
    topic: &Topic,
    sequence: u64,
) -> anyhow::Result<Option<DateTime<Utc>>> {
    #[derive(Deserialize)]
    struct Found {
        message: Message,
    }
    #[derive(Deserialize)]
    struct Message {
        time: DateTime<Utc>,
    }
    let subject = format!("STREAM.MSG.GET.{}", topic.stream);
    let request = json!({ "seq": sequence, "next_by_subj": topic.subject });
    match jetstream.request(subject, &request).await? {
        Answer::Ok(Found { message }) => Ok(Some(message.time)),
        Answer::Err { error } if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(None),
        Answer::Err { error } => bail!(error),
    }
}
