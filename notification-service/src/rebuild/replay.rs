//! Reading the stream from its beginning and applying it to a collection.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::{
    Message,
    consumer::{DeliverPolicy, pull},
    stream::LastRawMessageErrorKind,
};
use backon::Retryable;
use futures::StreamExt;
use indicatif::ProgressBar;
use service_runtime::backoff;
use shared_events::{Topic, UserEvent};
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::source::Source;
use crate::projection::{Delivered, Fold, Outcome, Projection};

const BATCH: usize = 1000;
/// After so long without a message it is looked up whether there should be one.
const SILENCE: Duration = Duration::from_secs(1);
const RECHECK: Duration = Duration::from_millis(50);

pub(super) struct Replay<'a> {
    source: &'a Source,
    topic: &'a Topic,
    messages: futures::stream::ReadyChunks<pull::Ordered>,
    progress: &'a ProgressBar,
    stop: &'a CancellationToken,
    /// The sequence of the last message that was applied.
    passed: u64,
    pub(super) events: u64,
    /// What is no event, and events that MongoDB will never take: dead letters all of them.
    pub(super) skipped: u64,
}

impl<'a> Replay<'a> {
    pub(super) async fn open(
        source: &'a Source,
        topic: &'a Topic,
        progress: &'a ProgressBar,
        stop: &'a CancellationToken,
    ) -> anyhow::Result<Self> {
        let config = pull::OrderedConfig {
            filter_subject: topic.subject.clone(),
            deliver_policy: DeliverPolicy::All,
            ..pull::OrderedConfig::default()
        };
        let first = source.stream().get_info().await?.state.first_sequence;
        let consumer = source.stream().create_consumer(config).await?;
        Ok(Self {
            source,
            topic,
            messages: consumer.messages().await?.ready_chunks(BATCH),
            progress,
            stop,
            passed: first.saturating_sub(1),
            events: 0,
            skipped: 0,
        })
    }

    /// Applies every event that is on the stream when it is called.
    pub(super) async fn catch_up(&mut self, projection: &Projection) -> anyhow::Result<()> {
        let mut end = self.end().await?;
        while self.passed < end {
            anyhow::ensure!(!self.stop.is_cancelled(), "the rebuild was stopped");
            match time::timeout(SILENCE, self.messages.next()).await {
                Ok(Some(batch)) => {
                    let batch = batch.into_iter().collect::<Result<Vec<_>, _>>();
                    let context = || format!("reading the stream behind sequence {}", self.passed);
                    self.apply(projection, batch.with_context(context)?).await?;
                }
                Ok(None) => anyhow::bail!("the stream ended behind sequence {}", self.passed),
                // The last message may have been removed meanwhile.
                Err(_) => end = self.end().await?,
            }
            self.progress.set_length(end.max(self.passed));
            self.progress.set_position(self.passed);
        }
        Ok(())
    }

    /// The sequence of the last event on the stream; 0 if there is none.
    pub(super) async fn end(&self) -> anyhow::Result<u64> {
        let last = self
            .source
            .stream()
            .get_last_raw_message_by_subject(&self.topic.subject);
        match last.await {
            Ok(message) => Ok(message.sequence),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    async fn apply(&mut self, projection: &Projection, batch: Vec<Message>) -> anyhow::Result<()> {
        let mut events = Vec::with_capacity(batch.len());
        let next = self.passed + 1;
        let mut is_gapless = true;
        for message in &batch {
            match UserEvent::parse(&message.payload) {
                Ok(event) => events.push(event),
                Err(_) => self.skipped += 1,
            }
            let sequence = message_sequence(message)?;
            is_gapless &= sequence == self.passed + 1;
            self.passed = sequence;
        }
        if !is_gapless {
            // Removed one by one, or expired before they were read?
            self.source.ensure_kept(next).await?;
        }
        self.events += events.len() as u64;
        let attempt = || try_apply(projection, &events);
        let retrying = attempt.retry(backoff::unbounded());
        let retrying = retrying.when(|_| !self.stop.is_cancelled());
        let applying = retrying.notify(|error, _| {
            tracing::warn!(%error, "the rebuild waits for MongoDB");
        });
        self.skipped += applying.await?;
        Ok(())
    }
}

/// How many of them MongoDB will never take.
async fn try_apply(projection: &Projection, events: &[UserEvent]) -> anyhow::Result<u64> {
    let delivered = events.iter().cloned();
    let delivered = delivered.map(|event| Delivered { event, message: () });
    let mut fold = Fold::new(delivered.collect());
    let mut refused = 0;
    while !fold.is_empty() {
        let outcomes = projection.apply(&fold.newest()).await?;
        let is_contended = outcomes.contains(&Outcome::Contended);
        let decided = fold.decide(outcomes);
        refused += decided.refused.len() as u64;
        anyhow::ensure!(
            decided.deferred.is_empty(),
            "MongoDB did not take some events"
        );
        if is_contended {
            time::sleep(RECHECK).await;
        }
    }
    Ok(refused)
}

fn message_sequence(message: &Message) -> anyhow::Result<u64> {
    let info = message.info().map_err(anyhow::Error::from_boxed)?;
    Ok(info.stream_sequence)
}
