//! Reading the stream from its beginning and applying it to a collection.

use std::time::Duration;

use async_nats::jetstream::Context;
use backon::Retryable;
use event_consumer::raw_message;
use indicatif::ProgressBar;
use service_runtime::backoff;
use shared_events::UserEvent;
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::{
    reader::{Item, Reader},
    source::Source,
};
use crate::{
    config::NatsConfig,
    projection::{Coalesced, Projection, ReceivedEvent, WriteOutcome},
};

const RECHECK: Duration = Duration::from_millis(50);

pub(super) struct Replay<'a> {
    source: &'a Source,
    jetstream: Context,
    config: &'a NatsConfig,
    reader: Reader<'a>,
    progress: &'a ProgressBar,
    stop: &'a CancellationToken,
    /// The sequence of the last message that was applied.
    pub(super) passed: u64,
    pub(super) events: u64,
    /// What is no event, and events that MongoDB will never take: dead letters all of them.
    pub(super) skipped: u64,
}

impl<'a> Replay<'a> {
    pub(super) async fn open(
        source: &'a Source,
        jetstream: &Context,
        config: &'a NatsConfig,
        progress: &'a ProgressBar,
        stop: &'a CancellationToken,
    ) -> anyhow::Result<Self> {
        let first = source.stream().get_info().await?.state.first_sequence;
        let passed = first.saturating_sub(1);
        Ok(Self {
            source,
            jetstream: jetstream.clone(),
            config,
            reader: Reader::open(config, jetstream.clone(), passed).await?,
            progress,
            stop,
            passed,
            events: 0,
            skipped: 0,
        })
    }

    /// Applies every event that is on the stream when it is called.
    pub(super) async fn catch_up(&mut self, projection: &Projection) -> anyhow::Result<()> {
        let mut end = self.end().await?;
        while self.passed < end {
            anyhow::ensure!(!self.stop.is_cancelled(), "the rebuild was stopped");
            let batch = self.reader.next(self.passed).await?;
            if batch.is_empty() {
                // The last message may have been removed meanwhile.
                end = self.end().await?;
            }
            self.apply(projection, batch).await?;
            self.progress.set_length(end.max(self.passed));
            self.progress.set_position(self.passed);
        }
        Ok(())
    }

    /// The sequence of the last event on the stream; 0 if there is none.
    pub(super) async fn end(&self) -> anyhow::Result<u64> {
        let (stream, subjects) = (&self.config.stream, self.config.reads());
        let last = raw_message::last_of_any(&self.jetstream, stream, &subjects).await?;
        Ok(last.map_or(0, |message| message.sequence))
    }

    /// Of a user who was deleted before the stream begins nothing is on it but such replays. What only
    /// a replay had is missed before the swap.
    fn is_too_old(&self, message: &Item, event: &UserEvent) -> bool {
        let written_at = message.written_at.unwrap_or(event.state().updated_at);
        message.is_replay && written_at < self.source.began_at()
    }

    async fn apply(&mut self, projection: &Projection, batch: Vec<Item>) -> anyhow::Result<()> {
        let mut events = Vec::with_capacity(batch.len());
        let next = self.passed + 1;
        let mut is_gapless = true;
        for message in &batch {
            match UserEvent::parse(&message.payload) {
                Ok(event) if !self.is_too_old(message, &event) => events.push(event),
                _ => self.skipped += 1,
            }
            let sequence = message.sequence;
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
    let received = events.iter().cloned();
    let received = received.map(|event| ReceivedEvent { event, message: () });
    let mut coalesced = Coalesced::new(received.collect());
    let mut refused = 0;
    while !coalesced.is_empty() {
        let outcomes = projection.apply(&coalesced.newest()).await?.outcomes;
        let is_contended = outcomes.contains(&WriteOutcome::Contended);
        let decided = coalesced.decide(outcomes);
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
