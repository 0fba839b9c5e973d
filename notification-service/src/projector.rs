//! From the stream into the copy: takes events in batches, applies them, then acknowledges them.

mod consumer;
mod dead_letter;
mod deliveries;
mod fold;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use async_nats::{
    Client,
    jetstream::{self, AckKind, Message},
};
use backon::BackoffBuilder;
use futures::future::try_join_all;
use service_runtime::{backoff, connection_url::ConnectionUrl, nats};
use shared_events::{Topic, UserEvent};
use tokio::time;
use tokio_util::sync::CancellationToken;

use self::{
    consumer::Witness,
    dead_letter::{DeadLetters, Reason},
    deliveries::{Deliveries, answer, give_back},
    fold::{Delivered, Fold},
};
use crate::{
    config::ProjectorConfig,
    projection::{Outcome, Projection},
};

const CONNECTION_NAME: &str = "notification-service";
/// How often an event is run again at once when other writers interfere.
const MAX_ROUNDS: usize = 5;
/// When an event is delivered again that MongoDB did not take.
const DEFER_DELAY: Duration = Duration::from_secs(2);
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);

pub(crate) struct Projector {
    nats_url: ConnectionUrl,
    topic: Topic,
    consumer: String,
    projection: Projection,
    tombstone_ttl: Duration,
    bound: Arc<AtomicBool>,
    witness: Option<Witness>,
}

impl Projector {
    pub(crate) fn new(
        config: &ProjectorConfig,
        projection: Projection,
        tombstone_ttl: Duration,
    ) -> Self {
        Self {
            nats_url: config.nats_url.clone(),
            topic: config.topic(),
            consumer: config.consumer.clone(),
            projection,
            tombstone_ttl,
            bound: Arc::default(),
            witness: None,
        }
    }

    /// Set once the consumer has been bound for the first time.
    pub(crate) fn bound(&self) -> Arc<AtomicBool> {
        self.bound.clone()
    }

    /// Projects until `shutdown`, through any failure of MongoDB and NATS.
    ///
    /// # Errors
    /// If the NATS URL is not valid.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let connect = nats::connect(&self.nats_url, CONNECTION_NAME);
        let Some(client) = shutdown.run_until_cancelled(connect).await else {
            return Ok(());
        };
        let client = client?;
        self.run_sessions(&client, &shutdown).await;
        match time::timeout(FLUSH_DEADLINE, client.flush()).await {
            Ok(flushed) => flushed.context("sending the last acknowledgements"),
            Err(_) => {
                tracing::warn!("the last acknowledgements were not sent; their events come again");
                Ok(())
            }
        }
    }

    /// A session ends with the first failure and gives back what it holds, so that another service
    /// may apply it meanwhile. The next one checks everything from the start.
    async fn run_sessions(&mut self, client: &Client, shutdown: &CancellationToken) {
        let mut delays = backoff::unbounded().build();
        loop {
            let mut progress = false;
            let session = self.session(client, shutdown, &mut progress).await;
            let Err(error) = session else { return };
            if progress {
                delays = backoff::unbounded().build();
            }
            let delay = delays.next().unwrap_or_default();
            let error = format!("{error:#}");
            tracing::warn!(
                error,
                retry_in_ms = delay.as_millis(),
                "projection is held up"
            );
            if shutdown
                .run_until_cancelled(time::sleep(delay))
                .await
                .is_none()
            {
                return;
            }
        }
    }

    async fn session(
        &mut self,
        client: &Client,
        shutdown: &CancellationToken,
        progress: &mut bool,
    ) -> anyhow::Result<()> {
        let Some(opened) = shutdown.run_until_cancelled(self.open(client)).await else {
            return Ok(());
        };
        let (mut deliveries, dead_letters) = opened?;
        let outcome = loop {
            match shutdown.run_until_cancelled(deliveries.next_batch()).await {
                None => break Ok(()),
                Some(Err(error)) => break Err(error),
                Some(Ok(batch)) => {
                    self.witness = batch.last().and_then(Witness::of);
                    if let Err(error) = self.settle(client, &dead_letters, batch).await {
                        break Err(error);
                    }
                    *progress = true;
                }
            }
        };
        deliveries.close().await;
        outcome
    }

    async fn open(&self, client: &Client) -> anyhow::Result<(Deliveries, DeadLetters)> {
        self.projection
            .prepare(self.tombstone_ttl)
            .await
            .context("waiting for MongoDB")?;
        let jetstream = jetstream::new(client.clone());
        let (stream, consumer) = consumer::bind(
            &jetstream,
            &self.topic,
            &self.consumer,
            self.witness.as_ref(),
        )
        .await
        .context("waiting for JetStream")?;
        let max_age = stream.cached_info().config.max_age;
        if max_age.is_zero() || max_age >= self.tombstone_ttl {
            tracing::warn!(
                max_age_s = max_age.as_secs(),
                tombstone_ttl_s = self.tombstone_ttl.as_secs(),
                "the stream keeps events longer than tombstones stay: a replay could bring deleted users back"
            );
        }
        let dead_letters = DeadLetters::open(&jetstream, &stream, &self.topic).await?;
        let deliveries = Deliveries::open(client, &consumer).await?;
        self.bound.store(true, Ordering::Relaxed);
        tracing::info!(
            stream = self.topic.stream,
            consumer = self.consumer,
            "projecting"
        );
        Ok((deliveries, dead_letters))
    }

    /// Brings each message of a batch to its end: applied and acknowledged, set aside, or left to
    /// be delivered again.
    async fn settle(
        &self,
        client: &Client,
        dead_letters: &DeadLetters,
        batch: Vec<Message>,
    ) -> anyhow::Result<()> {
        let (events, unreadable) = parse(batch);
        let set_aside = async |(message, reason): (Message, Reason)| {
            dead_letters.set_aside(&message, &reason).await
        };
        try_join_all(unreadable.into_iter().map(set_aside)).await?;

        let mut fold = Fold::new(events);
        for _ in 0..MAX_ROUNDS {
            if fold.is_empty() {
                return Ok(());
            }
            let outcomes = match self.projection.apply(&fold.newest()).await {
                Ok(outcomes) => outcomes,
                Err(failure) => {
                    let held: Vec<_> = fold.into_messages().collect();
                    give_back(client, &held).await;
                    return Err(failure).context("waiting for MongoDB");
                }
            };
            log_deferred(&outcomes);
            let decided = fold.decide(outcomes);
            answer(&decided.applied, AckKind::Ack).await?;
            answer(&decided.deferred, AckKind::Nak(Some(DEFER_DELAY))).await?;
            let refused = decided.refused.into_iter();
            let refused = refused.map(|(message, refusal)| (message, refusal.into()));
            try_join_all(refused.map(set_aside)).await?;
        }
        let contended: Vec<_> = fold.into_messages().collect();
        answer(&contended, AckKind::Nak(Some(DEFER_DELAY))).await
    }
}

fn parse(batch: Vec<Message>) -> (Vec<Delivered<Message>>, Vec<(Message, Reason)>) {
    let mut events = Vec::with_capacity(batch.len());
    let mut unreadable = Vec::new();
    for message in batch {
        match UserEvent::parse(&message.payload) {
            Ok(event) => events.push(Delivered { event, message }),
            Err(reason) => unreadable.push((message, reason.into())),
        }
    }
    (events, unreadable)
}

fn log_deferred(outcomes: &[Outcome]) {
    let deferred = |it: &&Outcome| matches!(it, Outcome::Deferred { .. });
    if let Some(Outcome::Deferred { code, message }) = outcomes.iter().find(deferred) {
        let events = outcomes.iter().filter(deferred).count();
        tracing::warn!(
            events,
            code,
            message,
            "MongoDB did not take some events; trying again later"
        );
    }
}
