//! How far the handler is behind the stream, and what else the server says of its consumer.

use std::time::Duration;

use ::time::OffsetDateTime;
use anyhow::{Context as _, bail, ensure};
use async_nats::jetstream::Context;
use futures::join;
use service_runtime::{
    nats::{ConsumerName, Topic},
    progress::Progress,
};
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;

use crate::{Connection, backlog::Backlog, dead_letters, metrics, raw_message};

/// Messages that wait for so long while none is delivered are held up. Longer than a pause lasts.
const MAX_STANDSTILL: Duration = Duration::from_secs(15);
/// A figure that is older than this says only how it was then.
const STALE: Duration = Duration::from_secs(5);
/// How long one look may take.
const DEADLINE: Duration = Duration::from_secs(3);
/// How long it waits of that for the number of dead letters.
const DEAD_LETTERS_DEADLINE: Duration = Duration::from_secs(1);

/// The age of the oldest message on the stream that is not settled yet; zero if all are. Knows
/// nothing of messages that have not reached the stream.
#[derive(Debug, Clone)]
pub struct Lag(watch::Sender<Option<Sample>>);

#[derive(Debug, Clone, Copy)]
struct Sample {
    lag: Duration,
    backlog: Backlog,
    /// The last message that was delivered.
    delivered: u64,
    /// Since when messages have waited and none was delivered; `taken` if that is not so.
    still_since: Instant,
    taken: Instant,
}

impl Sample {
    fn after(self, earlier: Option<Self>) -> Self {
        let is_still = |it: &Self| self.backlog.pending > 0 && it.delivered == self.delivered;
        let still_since = earlier.filter(is_still).map(|it| it.still_since);
        Self {
            still_since: still_since.unwrap_or(self.taken),
            ..self
        }
    }
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

    /// `None` if it is not known, or no longer.
    #[must_use]
    pub fn backlog(&self) -> Option<Backlog> {
        let sample = (*self.0.borrow())?;
        (sample.taken.elapsed() <= STALE).then_some(sample.backlog)
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

    /// Fails if messages wait and the server has delivered none for 15 s, as when too many are not
    /// acknowledged. (That the server answers says nothing of that.)
    ///
    /// # Errors
    /// As said.
    pub fn check_deliveries(&self) -> anyhow::Result<()> {
        let Some(sample) = *self.0.borrow() else {
            return Ok(());
        };
        let Backlog {
            pending,
            unacknowledged,
            ..
        } = sample.backlog;
        let still = sample.taken.duration_since(sample.still_since);
        ensure!(
            still < MAX_STANDSTILL,
            "{pending} messages wait and none was delivered for {} s; {unacknowledged} that were \
             delivered are not acknowledged",
            still.as_secs()
        );
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
        let shown = self.clone();
        metrics::show_backlog(move || (shown.current(), shown.backlog()), &consumer);
        let (lag, topic, consumer) = (&self, &topic, &consumer);
        let look = |jetstream| async move {
            let taken = Instant::now();
            let looked = time::timeout(DEADLINE, look(&jetstream, topic, consumer)).await;
            let (age, backlog, delivered) = looked.context("no answer in time").flatten()?;
            let sample = Sample {
                lag: age,
                backlog,
                delivered,
                still_since: taken,
                taken,
            };
            lag.0.send_modify(|it| *it = Some(sample.after(it.take())));
            Ok(())
        };
        connection.observe("lag", &progress, &shutdown, look).await;
        Ok(())
    }
}

/// The age, the figures and the last message that was delivered, of one answer about the consumer.
async fn look(
    jetstream: &Context,
    topic: &Topic,
    name: &ConsumerName,
) -> anyhow::Result<(Duration, Backlog, u64)> {
    let stream = jetstream.get_stream_no_info(&topic.stream).await?;
    // The stream of dead letters may be without a leader while this one is not.
    let (consumer, dead_letters) = join!(
        stream.consumer_info(name.as_str()),
        time::timeout(
            DEAD_LETTERS_DEADLINE,
            dead_letters::count(jetstream, topic, name)
        ),
    );
    let consumer = consumer?;
    let backlog = Backlog {
        pending: consumer.num_pending,
        unacknowledged: consumer.num_ack_pending as u64,
        redelivered: consumer.num_redelivered as u64,
        ack_floor: consumer.ack_floor.stream_sequence,
        dead_letters: known(dead_letters),
    };
    let age = age(jetstream, topic, name, &backlog).await?;
    Ok((age, backlog, consumer.delivered.stream_sequence))
}

fn known(dead_letters: Result<anyhow::Result<u64>, time::error::Elapsed>) -> Option<u64> {
    let counted = dead_letters.context("no answer in time").flatten();
    counted
        .inspect_err(|error| {
            let error = format!("{error:#}");
            tracing::debug!(error, "the dead letters were not counted");
        })
        .ok()
}

async fn age(
    jetstream: &Context,
    topic: &Topic,
    name: &ConsumerName,
    backlog: &Backlog,
) -> anyhow::Result<Duration> {
    if backlog.pending == 0 && backlog.unacknowledged == 0 {
        return Ok(Duration::ZERO);
    }
    let (behind, subjects) = (backlog.ack_floor + 1, name.reads(topic));
    let oldest = raw_message::next_of_any(jetstream, &topic.stream, &subjects, behind).await?;
    let Some(oldest) = oldest else {
        return Ok(Duration::ZERO);
    };
    // The two clocks may differ by a little.
    let age = OffsetDateTime::now_utc() - oldest.time;
    Ok(age.try_into().unwrap_or_default())
}
