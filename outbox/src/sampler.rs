//! Samples what Postgres knows of the outbox, for the metrics of every process with a relay role: also of
//! one whose relay stands by, or does not reach NATS.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use metrics::Gauge;
use postgres_pool::Pool;
use service_runtime::progress::Progress;
use tokio_util::sync::CancellationToken;

use crate::{
    inspect::MAX_COUNTED,
    metrics::{LEASE_EPOCH, LEASE_HELD, PARKED_EVENTS, SampledStream, approximate},
    route::Routes,
    status::{self, RelayStatus, StreamStatus},
};

const INTERVAL: Duration = Duration::from_secs(5);

/// Keeps the metrics of the outbox up to date. They are NaN only while Postgres can't be asked.
#[derive(Debug)]
pub struct Sampler {
    pool: Pool,
    streams: BTreeMap<String, SampledStream>,
    parked: Gauge,
    lease_held: Gauge,
    lease_epoch: Gauge,
    has_failed: bool,
}

struct Sample {
    relay: RelayStatus,
    streams: Vec<StreamStatus>,
    now: DateTime<Utc>,
}

impl Sampler {
    pub(crate) fn new(pool: Pool, routes: &Routes) -> Self {
        let streams = routes.streams().iter().map(|it| &it.topic.stream);
        let sampler = Self {
            pool,
            streams: streams
                .map(|stream| (stream.clone(), SampledStream::new(stream)))
                .collect(),
            parked: PARKED_EVENTS.with([]),
            lease_held: LEASE_HELD.with([]),
            lease_epoch: LEASE_EPOCH.with([]),
            has_failed: false,
        };
        sampler.forget();
        sampler
    }

    /// Samples until `shutdown`. Statements have the deadlines of the pool.
    ///
    /// # Errors
    /// None: what fails is tried again.
    pub async fn run(
        mut self,
        progress: Progress,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let sampling = async {
            loop {
                self.sample().await;
                progress.rest(INTERVAL).await;
            }
        };
        shutdown.run_until_cancelled(sampling).await;
        Ok(())
    }

    async fn sample(&mut self) {
        match ask(&self.pool).await {
            Ok(sample) => {
                self.note(sample);
                self.has_failed = false;
            }
            Err(error) => {
                self.forget();
                if !std::mem::replace(&mut self.has_failed, true) {
                    tracing::warn!(%error, "the outbox was not sampled; its metrics are NaN until it is");
                }
            }
        }
    }

    fn note(&mut self, sample: Sample) {
        let Sample {
            relay,
            streams,
            now,
        } = sample;
        self.parked.set(count(relay.parked));
        self.lease_held.set(flag(relay.is_active));
        self.lease_epoch.set(count(relay.epoch));
        for StreamStatus { stream, .. } in &streams {
            if !self.streams.contains_key(stream) {
                (self.streams).insert(stream.clone(), SampledStream::new(stream));
            }
        }
        for (name, sampled) in &self.streams {
            let status = streams.iter().find(|it| it.stream == *name);
            // Nothing is owed to a stream that was forgotten, or to which no events are routed any more.
            note(sampled, status.filter(|it| it.is_configured), now);
        }
    }

    fn forget(&self) {
        self.streams.values().for_each(SampledStream::forget);
        for gauge in [&self.parked, &self.lease_held, &self.lease_epoch] {
            gauge.set(f64::NAN);
        }
    }
}

fn note(sampled: &SampledStream, status: Option<&StreamStatus>, now: DateTime<Utc>) {
    let number = |of: fn(&StreamStatus) -> i64| count(status.map_or(0, of));
    let oldest = status.and_then(|it| it.oldest_pending_at);
    let age = oldest.and_then(|at| (now - at).to_std().ok());
    sampled.pending.set(number(|it| it.pending));
    sampled.oldest_pending_age.set(age.unwrap_or_default());
    sampled.sequence.set(number(|it| it.stream_sequence));
    sampled.open_gaps.set(number(|it| it.open_gaps.into()));
    let is_unreconciled = status.is_some_and(|it| it.unreconciled_since.is_some());
    sampled.unreconciled.set(flag(is_unreconciled));
    sampled.orphans.set(number(|it| it.orphans));
}

async fn ask(pool: &Pool) -> sqlx::Result<Sample> {
    Ok(Sample {
        relay: status::relay(pool).await?,
        streams: status::streams(pool, MAX_COUNTED).await?,
        now: status::now(pool).await?,
    })
}

fn count(number: i64) -> f64 {
    approximate(number.max(0).cast_unsigned())
}

fn flag(is_so: bool) -> f64 {
    if is_so { 1.0 } else { 0.0 }
}
