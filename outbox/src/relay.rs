//! The relay: brings the outbox to `JetStream`, in order, one active relay per database.
//!
//! ```text
//! lease ─► stream found whole ─► reader ──steps──► publisher ──acks──► cursor
//! ```
//!
//! A session runs until something fails; what follows then depends on the [`Failure`] alone.

mod backlog;
mod completeness;
mod cursor;
mod failure;
mod lease;
mod ledger_check;
mod message;
mod parking;
mod position;
mod publisher;
mod reader;
mod start;
mod stream_check;

use std::{collections::HashMap, convert::Infallible, sync::atomic::Ordering, time::Duration};

use async_nats::jetstream;
use backon::BackoffBuilder;
use futures::TryFutureExt;
use postgres_pool::Pool;
use service_runtime::{
    backoff,
    nats::{
        self, Topic,
        stream::{self, StreamSettings},
    },
    progress::Progress,
    tasks::unless_stopped,
};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use self::{
    failure::{Failure, within},
    lease::Lease,
    publisher::Publisher,
    reader::Reader,
};
use crate::{
    config::RelayConfig,
    partitions::{self, Retention},
    wake::{self, Written},
};

/// Events read at once. Larger ones cost memory and gain nothing.
const BATCH: u16 = 1000;
/// Between two reads that do not fill a batch. The first event after a pause is read at once; under
/// load this makes batches of what would be a read for each event.
const READ_INTERVAL: Duration = Duration::from_millis(1);
/// Batches read ahead of the publisher.
const READ_AHEAD: usize = 2;
/// An acknowledgement that is not there by then counts as unknown.
const ACK_TIMEOUT: Duration = Duration::from_secs(3);
/// Creating, updating or asking about the stream: some requests, each with [`ACK_TIMEOUT`].
const STREAM_TIMEOUT: Duration = Duration::from_secs(8);
/// How often an event is tried that `JetStream` refuses, before it is parked.
const MAX_REFUSALS: i32 = 3;
/// How often an idle relay makes sure that the stream still has what it acknowledged, and that the
/// ledger gives out new ids.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// How often the partitions of the outbox are looked after.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(10);
/// A session that lasted this long before it failed starts the waiting anew.
const STABLE: Duration = Duration::from_secs(10);

struct Relay {
    pool: Pool,
    jetstream: jetstream::Context,
    topic: Topic,
    settings: StreamSettings,
    poll_interval: Duration,
    max_in_flight: u16,
    retention: Retention,
    written: Written,
    progress: Progress,
}

/// Takes part until `shutdown`: active while it has the lease, standing by otherwise.
///
/// # Errors
/// If NATS can't be connected to with these settings.
pub async fn run(
    config: RelayConfig,
    pool: Pool,
    written: Written,
    progress: Progress,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let connecting = nats::connect(&config.nats, "user-service relay");
    let connecting = progress.while_retrying(connecting);
    let Ok(client) = unless_stopped(&shutdown, connecting).await else {
        return Ok(());
    };
    let relay = Relay {
        jetstream: jetstream(client?, config.max_in_flight),
        topic: config.topic(),
        settings: config.stream_settings(),
        poll_interval: config.poll_interval,
        max_in_flight: config.max_in_flight,
        retention: config.retention(),
        pool,
        written,
        progress,
    };
    let owner = owner();
    while let Some(lease) = (shutdown)
        .run_until_cancelled(Lease::acquire(&relay.pool, &owner, &relay.progress))
        .await
    {
        tracing::info!(epoch = lease.epoch, "relay is active");
        relay.written.relay_is_here.store(true, Ordering::Relaxed);
        tokio::select! {
            () = relay.lead(&lease, &shutdown) => {}
            () = lease.keep(&relay.pool) => {}
            never = relay.keep_house() => match never {},
            never = wake::listen(&relay.pool, &relay.written.here) => match never {},
        }
        relay.written.relay_is_here.store(false, Ordering::Relaxed);
        if shutdown.is_cancelled() {
            if let Err(error) = lease.release(&relay.pool).await {
                tracing::warn!(%error, "the lease was not released; it will expire");
            }
            tracing::info!(epoch = lease.epoch, "relay has stopped");
            break;
        }
        tracing::warn!(
            epoch = lease.epoch,
            "relay has lost its lease and stands by"
        );
    }
    Ok(())
}

/// For people to read in the cursor row: who is active?
fn owner() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{} process {}", host.trim(), std::process::id())
}

fn jetstream(client: async_nats::Client, max_in_flight: u16) -> jetstream::Context {
    jetstream::ContextBuilder::new()
        .timeout(ACK_TIMEOUT)
        .ack_timeout(ACK_TIMEOUT)
        // The publisher keeps the bound itself; this one only must not be lower.
        .max_ack_inflight(usize::from(max_in_flight) * 2)
        .backpressure_on_inflight(true)
        .build(client)
}

impl Relay {
    /// One session after the other, until `shutdown` or until the lease is lost.
    async fn lead(&self, lease: &Lease, shutdown: &CancellationToken) {
        let mut refusals = HashMap::new();
        let mut delays = retry_delays();
        loop {
            self.progress.attempted();
            let started = Instant::now();
            let Err(failure) = self.session(lease, shutdown).await else {
                return;
            };
            if started.elapsed() > STABLE {
                delays = retry_delays();
            }
            match failure {
                Failure::LeaseLost => return,
                Failure::Refused { id, reason } => {
                    let attempts = refusals.entry(id).or_insert(0);
                    *attempts += 1;
                    if *attempts < MAX_REFUSALS {
                        continue;
                    }
                    if let Err(error) =
                        parking::park(&self.pool, lease, id, &reason, *attempts).await
                    {
                        tracing::warn!(%error, outbox_id = id, "the event was not parked");
                        continue;
                    }
                    tracing::error!(outbox_id = id, reason, attempts, "parked an event");
                    refusals.remove(&id);
                }
                failure => {
                    let delay = delays.next().unwrap_or_default();
                    tracing::warn!(%failure, retry_in_ms = delay.as_millis(), "relay is held up");
                    tokio::select! {
                        () = tokio::time::sleep(delay) => {}
                        () = shutdown.cancelled() => return,
                    }
                }
            }
        }
    }

    /// Publishes until `shutdown`, or until something fails.
    async fn session(&self, lease: &Lease, shutdown: &CancellationToken) -> Result<(), Failure> {
        let preparing = stream::create_or_update(&self.jetstream, &self.topic, &self.settings)
            .map_err(|error| Failure::JetStream(error.to_string()));
        within(STREAM_TIMEOUT, preparing).await?;
        let cursor = start::find(&self.pool, &self.jetstream, &self.topic, lease).await?;

        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let reader = Reader::new(self.pool.clone(), BATCH, &cursor);
        let publisher = Publisher::new(
            &self.pool,
            &self.jetstream,
            &self.topic,
            lease,
            usize::from(self.max_in_flight),
            cursor,
            &self.progress,
        );
        // When reading ends, for whatever reason, the publisher finishes what it has in hand.
        let both = async {
            let (read, published) =
                tokio::join!(self.read(reader, sender, shutdown), publisher.run(receiver));
            published.and(read)
        };
        tokio::select! {
            outcome = both => outcome,
            failure = self.watch_both_ends() => Err(failure),
            never = completeness::keep_told(&self.pool, &self.jetstream, &self.topic, lease) => {
                match never {}
            }
        }
    }

    async fn read(
        &self,
        mut reader: Reader,
        steps: mpsc::Sender<Vec<reader::Step>>,
        shutdown: &CancellationToken,
    ) -> Result<(), Failure> {
        while !shutdown.is_cancelled() && !steps.is_closed() {
            let found = reader.next().await?;
            let has_found = !found.steps.is_empty();
            // None are sent as well: the publisher knows then that there is nothing to do.
            if steps.send(found.steps).await.is_err() {
                return Ok(());
            }
            if has_found && !found.more {
                tokio::time::sleep(READ_INTERVAL).await;
            }
            if !found.more {
                tokio::select! {
                    () = self.written.here.raised() => {}
                    () = tokio::time::sleep(self.poll_interval) => {}
                    () = steps.closed() => {}
                    () = shutdown.cancelled() => {}
                }
            }
        }
        Ok(())
    }

    /// Looks after the partitions of the outbox.
    async fn keep_house(&self) -> Infallible {
        loop {
            if let Err(error) = partitions::maintain(&self.pool, self.retention).await {
                tracing::warn!(%error, "the outbox was not maintained; trying again later");
            }
            tokio::time::sleep(MAINTENANCE_INTERVAL).await;
        }
    }

    async fn watch_both_ends(&self) -> Failure {
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            match stream_check::is_whole(&self.pool, &self.jetstream, &self.topic).await {
                Ok(true) => {}
                Ok(false) => return Failure::StreamChanged,
                Err(failure) => return failure,
            }
            match ledger_check::is_behind(&self.pool).await {
                Ok(false) => {}
                Ok(true) => return Failure::LedgerChanged,
                Err(error) => return error.into(),
            }
        }
    }
}

fn retry_delays() -> impl Iterator<Item = Duration> {
    backoff::unbounded()
        .with_max_delay(Duration::from_secs(1))
        .build()
}
