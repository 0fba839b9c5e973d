//! The relay: brings the outbox to `JetStream`, in order, one active relay per database.
//!
//! ```text
//! lease ─► stream found whole ─► reader ──tasks──► publisher ──acks──► cursor      (for each stream)
//! ```

mod claim;
mod completeness;
mod cursor;
mod decisions;
mod doubts;
mod failure;
mod identity;
mod incarnation;
mod lease;
mod ledger_check;
mod look;
mod message;
mod orphans;
mod owned;
mod parking;
mod per_key_queue;
mod position;
mod publisher;
mod reader;
mod responsibility;
mod send_span;
mod session;
mod start;
mod stored_message;
mod stream_check;
mod stream_info;
mod stream_loss;
mod stream_metadata;
mod stream_progress;
mod task;
mod waiter;

#[cfg(any(test, fuzzing))]
pub(crate) use self::cursor::fuzzing;

use std::{convert::Infallible, env, time::Duration};

use async_nats::{Client, jetstream};
use futures::future::try_join_all;
use postgres_pool::{Database, Pool};
use service_runtime::{
    health::Check,
    nats::{self, stream::StreamSettings},
    progress::Progress,
    tasks::unless_stopped,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use self::{
    claim::Claimed,
    lease::Lease,
    session::{End, StreamRelay},
    stream_loss::Reread,
    stream_metadata::MetadataWriter,
    stream_progress::StreamProgress,
    waiter::Waiter,
};
use crate::{
    config::RelayConfig,
    metrics::{RelayMetrics, StreamMetrics},
    partitions::{self, Retention},
    route::Routes,
    sampler::Sampler,
    wake::Written,
};

/// An acknowledgement that is not there by then counts as unknown.
const ACK_TIMEOUT: Duration = Duration::from_secs(3);
/// Creating, updating or asking about the stream: some requests, each with [`ACK_TIMEOUT`].
const STREAM_TIMEOUT: Duration = Duration::from_secs(8);
/// How often the partitions of the outbox are maintained.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(10);
/// A relay that reached its servers so long ago, beside its poll interval, is not ready.
const MAX_SILENCE: Duration = Duration::from_secs(10);
const REPAIR_RETRY: Duration = Duration::from_secs(1);
/// How long a statement waits for a lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// What the relay needs at once, whatever the streams: keeping the lease, maintaining the ledger,
/// waiting for events, sampling. And for each stream: reading, moving the cursor, looking after the stream.
const CONNECTIONS: u32 = 4;
const CONNECTIONS_PER_STREAM: u32 = 2;

/// A relay: active while it has the lease, standing by otherwise.
#[derive(Debug)]
pub struct Relay {
    /// See [`relay_pool`].
    pub pool: Pool,
    pub routes: Routes,
    pub config: RelayConfig,
    /// Raised by producers in the same process.
    pub written: Written,
    /// Succeeds when all streams have all events, or another relay is active.
    pub progress: Progress,
}

/// A relay that holds the lease.
struct ActiveRelay<'a> {
    pool: &'a Pool,
    client: &'a Client,
    routes: &'a Routes,
    settings: StreamSettings,
    source: &'a str,
    poll_interval: Duration,
    max_in_flight: u16,
    retention: Retention,
    waiter: Waiter,
    progress: &'a Progress,
    /// By stream.
    metrics: &'a [StreamMetrics],
}

/// A pool with the connections that a relay with these routes needs.
///
/// # Errors
/// If the URL is not one that Postgres understands.
pub fn relay_pool(database: &Database, routes: &Routes) -> anyhow::Result<Pool> {
    let streams = u32::try_from(routes.streams().len())?;
    let connections = CONNECTIONS + CONNECTIONS_PER_STREAM * streams;
    Ok(postgres_pool::pool(database, connections, LOCK_TIMEOUT)?.named("relay"))
}

impl Relay {
    /// Ready means that it publishes, has found nothing to publish, or stands by for another.
    #[must_use]
    pub fn check(&self) -> Check {
        (self.progress).check(MAX_SILENCE + 2 * self.config.poll_interval)
    }

    /// What samples the outbox for the metrics of a process with this relay.
    #[must_use]
    pub fn sampler(&self) -> Sampler {
        Sampler::new(self.pool.clone(), &self.routes)
    }

    /// Takes part until `shutdown`. The schema has to be there, see [`migrate`](crate::migrate).
    ///
    /// # Errors
    /// If a setting of the connection to NATS is not valid.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let Self {
            pool,
            routes,
            config,
            written,
            progress,
        } = self;
        let metrics = RelayMetrics::new();
        let streams = routes.streams().iter();
        let of_streams: Vec<_> = streams
            .map(|it| StreamMetrics::new(&it.topic.stream))
            .collect();
        let connecting = nats::connect(&config.nats, "outbox relay");
        let connecting = progress.while_retrying(connecting);
        let Ok(client) = unless_stopped(&shutdown, connecting).await else {
            return Ok(());
        };
        let client = client?;
        let source = config.event_source.clone().unwrap_or_else(program);
        let owner = owner();
        let acquiring = |own| Lease::acquire(&pool, &owner, &routes, &progress, own);
        let mut own = None;
        while let Some(lease) = shutdown.run_until_cancelled(acquiring(own)).await {
            own = Some(lease.epoch);
            tracing::info!(epoch = lease.epoch, "relay is active");
            decisions::lease_taken(&lease);
            metrics.active.set(1);
            let active = ActiveRelay {
                pool: &pool,
                client: &client,
                routes: &routes,
                settings: config.stream_settings(),
                source: &source,
                poll_interval: config.poll_interval,
                max_in_flight: config.max_in_flight,
                retention: config.retention(),
                waiter: Waiter::new(routes.streams().len()),
                progress: &progress,
                metrics: &of_streams,
            };
            let end = tokio::select! {
                led = active.lead(&lease, &shutdown) => led.err(),
                () = lease.keep(&pool) => Some(End::LeaseLost),
                never = active.maintain() => match never {},
                never = active.waiter.run(&pool, &written) => match never {},
            };
            metrics.active.set(0);
            of_streams.iter().for_each(StreamMetrics::stand_by);
            if end == Some(End::LeaseLost) && !shutdown.is_cancelled() {
                metrics.lease_losses.increment(1);
                decisions::lease_lost(&lease);
                tracing::warn!(
                    epoch = lease.epoch,
                    "relay has lost its lease and stands by"
                );
                continue;
            }
            if let Err(error) = lease.release(&pool).await {
                tracing::warn!(%error, "the lease was not released; it will expire");
            }
            tracing::info!(epoch = lease.epoch, "relay has stopped");
        }
        Ok(())
    }
}

impl ActiveRelay<'_> {
    /// Brings events to all streams until `shutdown`. If the sequence of the ledger turns out to be
    /// behind a cursor, all of this has to begin anew, with another epoch: then nothing that is still
    /// on its way to Postgres can undo the repair.
    async fn lead(&self, lease: &Lease, shutdown: &CancellationToken) -> Result<(), End> {
        let streams = self.routes.streams();
        let progress = StreamProgress::of_all(streams.len(), self.progress);
        let of_stream = |(number, (stream, progress))| StreamRelay {
            relay: self,
            metrics: &self.metrics[number],
            jetstream: jetstream(self.client.clone(), self.max_in_flight),
            stream,
            number,
            lease,
            metadata: MetadataWriter::new(
                jetstream(self.client.clone(), self.max_in_flight),
                stream.topic.stream.clone(),
            ),
            reread: Reread::default(),
            claimed: Claimed::default(),
            progress,
        };
        let streams: Vec<_> = (streams.iter().zip(progress).enumerate())
            .map(of_stream)
            .collect();
        // Before the sessions of all streams, because it may move any stream's cursor.
        while let Err(error) = ledger_check::check_sequence(self.pool, lease).await {
            self.progress.attempted();
            let error = format!("{error:#}");
            tracing::warn!(
                error,
                "the sequence of the outbox is not in order; trying again"
            );
            if (shutdown.run_until_cancelled(sleep(REPAIR_RETRY)).await).is_none() {
                return Ok(());
            }
        }
        try_join_all(streams.iter().map(|it| Box::pin(it.lead(shutdown))))
            .await
            .map(drop)
    }

    /// Looks after the partitions of the outbox.
    async fn maintain(&self) -> Infallible {
        loop {
            if let Err(error) = partitions::maintain(self.pool, self.retention).await {
                tracing::warn!(%error, "the outbox was not maintained; trying again later");
            }
            sleep(MAINTENANCE_INTERVAL).await;
        }
    }
}

/// For people to read in the row of the lease: who is active?
fn owner() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{} process {}", host.trim(), std::process::id())
}

/// `ce-source` unless it is set.
fn program() -> String {
    let program = env::current_exe().ok();
    let name = program.as_deref().and_then(|it| it.file_name()?.to_str());
    format!("/{}", name.unwrap_or("outbox-relay"))
}

/// For one stream: each has a bound of its own, so that one that does not answer holds up no other.
fn jetstream(client: Client, max_in_flight: u16) -> jetstream::Context {
    jetstream::ContextBuilder::new()
        .timeout(ACK_TIMEOUT)
        .ack_timeout(ACK_TIMEOUT)
        // The publisher keeps the bound itself; this one only must not be lower.
        .max_ack_inflight(usize::from(max_in_flight) * 2)
        .backpressure_on_inflight(true)
        .build(client)
}
