//! The way to one stream: a session runs until something fails; what follows then depends on the
//! [`Failure`] alone. Each stream has sessions of its own, so one that is unavailable holds up no
//! other.

use std::{collections::HashMap, time::Duration};

use async_nats::jetstream::Context;
use futures::TryFutureExt;
use service_runtime::{nats::stream, sessions::Sessions, telemetry::trace_context::Traceparent};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    ActiveRelay, STREAM_TIMEOUT,
    claim::{Claim, Claimed},
    completeness, decisions,
    failure::{Failure, within},
    lease::Lease,
    look::Looker,
    orphans::{self, Lookup, superseded::Superseded},
    owned::Owned,
    parking,
    publisher::{Destination, Publisher},
    reader::{Interest, Reader},
    start,
    stream_loss::{self, Reread},
    stream_metadata::MetadataWriter,
    stream_progress::StreamProgress,
    task::Task,
};
use crate::{metrics::StreamMetrics, route::RoutedStream};

/// Events read at once. Larger ones cost memory and gain nothing.
const BATCH: u16 = 1000;
/// Between two reads that do not fill a batch. The first event after a pause is read at once; under
/// load this makes batches of what would be a read for each event.
const READ_INTERVAL: Duration = Duration::from_millis(1);
/// Batches read ahead of the publisher.
const READ_AHEAD: usize = 2;
/// How often an event is tried that `JetStream` refuses, before it is parked.
const MAX_REFUSALS: i32 = 3;

/// Why a stream's sessions ended for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    LeaseLost,
    /// The sequence of the outbox wants a repair, while no stream has a session.
    Sequence,
}

pub(super) struct StreamRelay<'a> {
    pub(super) relay: &'a ActiveRelay<'a>,
    pub(super) jetstream: Context,
    pub(super) stream: &'a RoutedStream,
    /// Among the relay's streams.
    pub(super) number: usize,
    pub(super) lease: &'a Lease,
    pub(super) metadata: MetadataWriter,
    pub(super) reread: Reread,
    pub(super) claimed: Claimed,
    pub(super) progress: StreamProgress,
    pub(super) metrics: &'a StreamMetrics,
}

impl StreamRelay<'_> {
    /// Publishes until `shutdown`. Relays that ask are answered between sessions as well.
    pub(super) async fn lead(&self, shutdown: &CancellationToken) -> Result<(), End> {
        tokio::select! {
            ended = self.run_sessions(shutdown) => ended,
            never = (self.claimed).answer(self.relay.client, &self.stream.topic.stream) => match never {},
        }
    }

    /// One session after the other.
    async fn run_sessions(&self, shutdown: &CancellationToken) -> Result<(), End> {
        let mut refusals = HashMap::new();
        let mut is_refused = false;
        let mut sessions = Sessions::new("relay", self.relay.progress, shutdown);
        while sessions.begin().await {
            // On the heap: unoptimized, it is too large for a thread's stack.
            let Err(failure) = Box::pin(self.session(shutdown)).await else {
                break;
            };
            self.metrics.session_failures.increment(1);
            self.metrics.session_ended();
            match failure {
                Failure::LeaseLost => return Err(End::LeaseLost),
                Failure::SequenceBehind | Failure::SequenceCached => return Err(End::Sequence),
                Failure::Refused { id, reason } => {
                    let attempts = refusals.entry(id).or_insert(0);
                    *attempts += 1;
                    if *attempts >= MAX_REFUSALS && self.park(id, &reason, *attempts).await {
                        refusals.remove(&id);
                    }
                }
                failure => {
                    if matches!(failure, Failure::JetStream(_) | Failure::Unacknowledged(_)) {
                        self.reread.doubt(&self.jetstream).await;
                    }
                    self.report_refusal(&failure, &mut is_refused);
                    sessions.failed(&format_args!(
                        "stream {}: {failure}",
                        self.stream.topic.stream
                    ));
                }
            }
        }
        Ok(())
    }

    /// Once: it lasts until somebody does something.
    fn report_refusal(&self, failure: &Failure, is_refused: &mut bool) {
        let was_refused = std::mem::replace(is_refused, matches!(failure, Failure::Foreign(_)));
        if *is_refused {
            self.claimed.set(None);
            self.relay.progress.failed();
        }
        if *is_refused && !was_refused {
            tracing::error!(
                stream = self.stream.topic.stream,
                reason = %failure,
                "the relay refuses to publish to the stream"
            );
        }
    }

    async fn park(&self, id: i64, reason: &str, attempts: i32) -> bool {
        let pool = self.relay.pool;
        let parking = async {
            let owned = Owned::begin(pool, self.lease, &self.stream.topic.stream).await?;
            parking::park(pool, &owned, id, reason, attempts).await
        };
        match parking.await {
            Ok(event) => {
                self.metrics.parked.increment(1);
                let created_in = event.traceparent.as_deref().and_then(Traceparent::parse);
                tracing::error!(
                    outbox_id = id,
                    event_id = event.id.map(tracing::field::display),
                    trace_id = created_in.map(Traceparent::trace_id),
                    reason,
                    attempts,
                    "parked an event"
                );
                true
            }
            Err(error) => {
                tracing::warn!(%error, outbox_id = id, "the event was not parked");
                false
            }
        }
    }

    /// Publishes until `shutdown`, or until something fails.
    async fn session(&self, shutdown: &CancellationToken) -> Result<(), Failure> {
        let (pool, jetstream) = (self.relay.pool, &self.jetstream);
        let topic = &self.stream.topic;
        let owned = &Owned::begin(pool, self.lease, &topic.stream).await?;
        let claim = Claim {
            client: self.relay.client,
            jetstream,
            pool,
            owned,
            metadata: &self.metadata,
            progress: self.relay.progress,
        };
        // Before anything about the stream is changed.
        let permission = claim.ask().await?;
        let preparing = stream::create_or_update(jetstream, topic, &self.relay.settings)
            .map_err(|error| Failure::JetStream(error.to_string()));
        within(STREAM_TIMEOUT, preparing).await?;
        let mine = claim.take(permission).await?;
        self.claimed.set(Some(mine.clone()));
        let lookup = self.lookup(owned);
        let finding = start::find(pool, jetstream, topic, owned, &self.metadata, self.metrics);
        let start = Box::pin(finding).await?;
        completeness::tell_changes(pool, &self.metadata, &topic.stream).await?;
        let looked_up = Box::pin(orphans::reconcile(lookup, &start)).await?;
        let mut cursor = start.cursor;
        let losses = stream_loss::begin(pool, owned, &mut cursor).await?;
        self.metrics.session_began(losses.incarnation());
        decisions::session_began(owned, &cursor, losses.ids(), losses.missing());

        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let interest = Interest::of(self.stream, self.relay.routes, &owned.identity);
        let superseded = Superseded::load(pool, &topic.stream).await?;
        let reader = Reader::new(pool.clone(), BATCH, interest, &cursor)
            .without(superseded)
            .with_refill(losses.ids());
        let to = Destination {
            jetstream,
            topic,
            source: self.relay.source,
            max_in_flight: self.relay.max_in_flight.into(),
        };
        let (looker, sights) = Looker::new();
        let taken_back = losses.taken_back();
        let losing = stream_loss::Watch {
            pool,
            jetstream,
            topic,
            owned,
            metadata: &self.metadata,
            reread: &self.reread,
            metrics: self.metrics,
            taken_back: &taken_back,
        };
        let telling = completeness::Telling {
            pool,
            jetstream,
            topic,
            owned,
            mine: &mine,
            metadata: &self.metadata,
        };
        let known = (lookup, &looked_up);
        let publisher = Publisher::new(pool, to, owned, cursor, losses, &self.progress, known);
        // When reading ends, for whatever reason, the publisher finishes what it has in hand.
        let both = async {
            let (read, published) =
                tokio::join!(self.read(reader, sender, shutdown), publisher.run(receiver));
            published.and(read)
        };
        tokio::select! {
            result = Box::pin(both) => result,
            failure = Box::pin(looker.run(&claim, &mine, self.metrics)) => Err(failure),
            failure = Box::pin(orphans::watch(lookup, &looked_up, sights.clone())) => Err(failure),
            failure = Box::pin(losing.run(sights.clone())) => Err(failure),
            never = Box::pin(telling.run(sights)) => match never {},
        }
    }

    async fn read(
        &self,
        mut reader: Reader,
        tasks: mpsc::Sender<Vec<Task>>,
        shutdown: &CancellationToken,
    ) -> Result<(), Failure> {
        let mut wake = self.relay.waiter.subscribe();
        while !shutdown.is_cancelled() && !tasks.is_closed() {
            wake.mark_unchanged();
            let found = reader.next().await?;
            let has_found = !found.tasks.is_empty();
            (self.metrics).read(found.tasks.len(), reader.oldest_gap_age());
            // None are sent as well: the publisher knows then that there is nothing to do.
            if tasks.send(found.tasks).await.is_err() {
                return Ok(());
            }
            if has_found && !found.more {
                sleep(READ_INTERVAL).await;
            }
            if !found.more {
                tokio::select! {
                    waited = self.wait(&reader, &mut wake, &tasks) => waited?,
                    () = tasks.closed() => {}
                    () = shutdown.cancelled() => {}
                }
            }
        }
        Ok(())
    }

    /// Until there may be something to read.
    async fn wait(
        &self,
        reader: &Reader,
        wake: &mut watch::Receiver<()>,
        tasks: &mpsc::Sender<Vec<Task>>,
    ) -> Result<(), Failure> {
        loop {
            tokio::select! {
                () = self.relay.waiter.wait(self.number, reader.position(), wake) => return Ok(()),
                () = sleep(self.relay.poll_interval) => {}
            }
            if reader.may_find_more().await? || tasks.send(Vec::new()).await.is_err() {
                return Ok(());
            }
        }
    }

    fn lookup<'a>(&'a self, owned: &'a Owned) -> Lookup<'a> {
        Lookup {
            pool: self.relay.pool,
            jetstream: &self.jetstream,
            topic: &self.stream.topic,
            owned,
            aggregate_types: &self.stream.aggregate_types,
            progress: self.relay.progress,
            metrics: self.metrics,
        }
    }
}
