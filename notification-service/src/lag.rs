//! How old the copy is.

use std::time::Duration;

use anyhow::{bail, ensure};
use async_nats::jetstream::{Context, ErrorCode, response::Response as Answer};
use axum::{
    extract::State,
    http::{HeaderName, HeaderValue},
    response::Response,
};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::json;
use service_runtime::nats::Topic;
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use crate::projector::Connection;

const HEADER: HeaderName = HeaderName::from_static("x-projection-lag-ms");
const INTERVAL: Duration = Duration::from_secs(1);
/// A figure that is older than this says only how it was then.
const STALE: Duration = Duration::from_secs(5);

/// The age of the oldest event on the stream that the copy does not have yet; zero if it has all.
/// Knows nothing of events that have not reached the stream.
#[derive(Debug, Clone)]
pub(crate) struct Lag(watch::Sender<Option<Sample>>);

#[derive(Debug, Clone, Copy)]
struct Sample {
    lag: Duration,
    taken: Instant,
}

impl Lag {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// `None` until it was found out for the first time. While NATS can't be asked, the copy ages
    /// with the last answer: there may be events that nobody knows of.
    pub(crate) fn current(&self) -> Option<Duration> {
        let sample = (*self.0.borrow())?;
        let age = sample.taken.elapsed();
        Some(if age > STALE {
            sample.lag + age
        } else {
            sample.lag
        })
    }

    /// # Errors
    /// If the copy is older than `limit`, or it is not known how old it is.
    pub(crate) fn check(&self, limit: Duration) -> anyhow::Result<()> {
        match self.current() {
            None => bail!("it is not known yet how old the copy is"),
            Some(lag) => ensure!(lag <= limit, "the copy is {lag:?} behind"),
        }
        Ok(())
    }

    /// Finds it out once a second, so that no request has to wait for it.
    pub(crate) async fn observe(
        self,
        connection: Connection,
        topic: Topic,
        consumer: String,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut ticks = time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let observing = async {
            loop {
                ticks.tick().await;
                let Some(jetstream) = connection.jetstream() else {
                    continue;
                };
                let taken = Instant::now();
                match measure(&jetstream, &topic, &consumer).await {
                    Ok(lag) => {
                        self.0.send_replace(Some(Sample { lag, taken }));
                    }
                    Err(error) => {
                        let error = format!("{error:#}");
                        tracing::debug!(error, "the lag can't be found out");
                    }
                }
            }
        };
        shutdown.run_until_cancelled(observing).await;
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

/// When the first event at `sequence` or behind it was published. Its headers are left alone,
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

/// Says in a response how old the copy is, in milliseconds; nothing as long as that is not known.
pub(crate) async fn stamp(State(lag): State<Lag>, mut response: Response) -> Response {
    let Some(lag) = lag.current() else {
        return response;
    };
    let milliseconds = u64::try_from(lag.as_millis()).unwrap_or(u64::MAX);
    let headers = response.headers_mut();
    headers.insert(HEADER, HeaderValue::from(milliseconds));
    response
}
