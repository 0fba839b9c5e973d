//! What is measured of pools that have a name.

use std::time::Instant;

use metrics::Counter as Count;
use service_runtime::metrics::{Counter, Description, Gauge, Histogram, SECONDS, on_scrape};
use sqlx::PgPool;

const CONNECTIONS: Gauge<2> = Gauge::new(
    "postgres_pool_connections",
    ["pool", "state"],
    "Open connections to Postgres, by state: idle or in_use.",
);
const MAX_CONNECTIONS: Gauge<1> = Gauge::new(
    "postgres_pool_connections_max",
    ["pool"],
    "As many connections as the pool may open.",
);
const ACQUIRE: Histogram<1> = Histogram::new(
    "postgres_pool_acquire_duration_seconds",
    ["pool"],
    SECONDS,
    "How long it took to get a connection out of the pool, or a new one.",
);
const ACQUIRE_FAILURES: Counter<1> = Counter::new(
    "postgres_pool_acquire_failures_total",
    ["pool"],
    "How often there was no connection to get, because all were in use for too long or Postgres could \
     not be reached.",
);
const ABANDONED: Counter<1> = Counter::new(
    "postgres_connections_abandoned_total",
    ["pool"],
    "Connections that were closed in the middle of a statement, because its deadline passed or whoever \
     sent it gave up.",
);

pub const METRICS: &[Description] = &[
    CONNECTIONS.description(),
    MAX_CONNECTIONS.description(),
    ACQUIRE.description(),
    ACQUIRE_FAILURES.description(),
    ABANDONED.description(),
];

/// Handles of one pool.
#[derive(Debug, Clone)]
pub(super) struct PoolMetrics {
    acquire: metrics::Histogram,
    acquire_failures: Count,
    pub(super) abandoned: Count,
}

impl PoolMetrics {
    /// Of a pool without a name.
    pub(super) fn none() -> Self {
        Self {
            acquire: metrics::Histogram::noop(),
            acquire_failures: Count::noop(),
            abandoned: Count::noop(),
        }
    }

    pub(super) fn new(pool: &'static str, connections: &PgPool) -> Self {
        MAX_CONNECTIONS
            .with([pool])
            .set(connections.options().get_max_connections());
        let [idle, in_use] = ["idle", "in_use"].map(|state| CONNECTIONS.with([pool, state]));
        let connections = connections.clone();
        on_scrape(move || {
            let (size, are_idle) = (f64::from(connections.size()), connections.num_idle());
            let are_idle = u32::try_from(are_idle).map_or(size, f64::from);
            idle.set(are_idle);
            in_use.set((size - are_idle).max(0.0));
        });
        Self {
            acquire: ACQUIRE.with([pool]),
            acquire_failures: ACQUIRE_FAILURES.with([pool]),
            abandoned: ABANDONED.with([pool]),
        }
    }

    pub(super) fn acquired<T, E>(&self, since: Instant, acquired: &Result<T, E>) {
        match acquired {
            Ok(_) => self.acquire.record(since.elapsed()),
            Err(_) => self.acquire_failures.increment(1),
        }
    }
}
