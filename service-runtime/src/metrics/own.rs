//! The metrics of this crate.

use super::{Counter, Description, Gauge, Histogram, SECONDS};

pub(crate) const SESSIONS_FAILED: Counter<1> = Counter::new(
    "sessions_failed_total",
    ["session"],
    "Sessions of a task (relay, consuming, change stream) that ended with an error; the task tries \
     again after a pause.",
);
pub(crate) const NATS_CONNECTED: Gauge<1> = Gauge::new(
    "nats_connected",
    ["connection"],
    "1 while a connection of this name to NATS is up, 0 while it is being made or made again.",
);
pub(crate) const REQUEST_DURATION: Histogram<3> = Histogram::new(
    "http_server_request_duration_seconds",
    ["method", "route", "status"],
    SECONDS,
    "From the head of a request to the head of its answer: an answer that streams counts until it \
     begins. `route` is the pattern of the path, or unmatched; `method` one of HTTP, or other; \
     `status` 499 if the client left first.",
);
pub(crate) const REQUESTS_IN_FLIGHT: Gauge<0> = Gauge::new(
    "http_server_requests_in_flight",
    [],
    "Requests whose answer has not begun.",
);
pub(crate) const REQUESTS_IN_FLIGHT_MAX: Gauge<0> = Gauge::new(
    "http_server_requests_in_flight_max",
    [],
    "The limit of concurrent requests (MAX_CONCURRENT_REQUESTS); those whose answers stream have limits of \
     their own.",
);
pub(crate) const CONNECTIONS: Gauge<0> = Gauge::new(
    "http_server_connections",
    [],
    "Open connections, without those above the limit.",
);
pub(crate) const CONNECTIONS_MAX: Gauge<0> = Gauge::new(
    "http_server_connections_max",
    [],
    "The limit of connections; above it only health checks and scrapes are answered.",
);
pub(crate) const REJECTED: Counter<1> = Counter::new(
    "http_server_rejected_total",
    ["reason"],
    "What was not served, by reason: rate_limit, concurrent_requests, host, cross_site, no_token, \
     unknown_token, insufficient_scope, or what is limited for each client and in total (connections, \
     request_bodies, unread_bytes, imports and others).",
);
pub(crate) const SPANS_EXPORTED: Counter<0> = Counter::new(
    "traces_exported_spans_total",
    [],
    "Spans that the collector has taken.",
);
pub(crate) const SPANS_DROPPED: Counter<1> = Counter::new(
    "traces_dropped_spans_total",
    ["reason"],
    "Spans that were dropped: queue_full, export_failed (the collector refused them or did not answer) \
     or shutdown (they were left when the process ended).",
);
pub(crate) const READY: Gauge<1> = Gauge::new(
    "readiness_check",
    ["check"],
    "Whether a check of /readyz passes (1 or 0), no more than a second ago.",
);
pub(super) const BUILD_INFO: Gauge<2> = Gauge::new(
    "build_info",
    ["service", "version"],
    "Always 1: which program this is.",
);
// What follows is set by a library.
const CPU: Counter<0> = Counter::new(
    "process_cpu_seconds_total",
    [],
    "Total user and system CPU time spent in seconds.",
);
const OPEN_FILES: Gauge<0> = Gauge::new("process_open_fds", [], "Number of open file descriptors.");
const MAX_FILES: Gauge<0> = Gauge::new(
    "process_max_fds",
    [],
    "Maximum number of open file descriptors.",
);
const VIRTUAL_MEMORY: Gauge<0> = Gauge::new(
    "process_virtual_memory_bytes",
    [],
    "Virtual memory size in bytes.",
);
const MAX_VIRTUAL_MEMORY: Gauge<0> = Gauge::new(
    "process_virtual_memory_max_bytes",
    [],
    "Maximum amount of virtual memory available in bytes.",
);
const MEMORY: Gauge<0> = Gauge::new(
    "process_resident_memory_bytes",
    [],
    "Resident memory size in bytes.",
);
const STARTED: Gauge<0> = Gauge::new(
    "process_start_time_seconds",
    [],
    "Start time of the process since unix epoch in seconds.",
);
const THREADS: Gauge<0> = Gauge::new(
    "process_threads",
    [],
    "Number of OS threads in the process.",
);

pub const METRICS: &[Description] = &[
    SESSIONS_FAILED.description(),
    NATS_CONNECTED.description(),
    REQUEST_DURATION.description(),
    REQUESTS_IN_FLIGHT.description(),
    REQUESTS_IN_FLIGHT_MAX.description(),
    CONNECTIONS.description(),
    CONNECTIONS_MAX.description(),
    REJECTED.description(),
    SPANS_EXPORTED.description(),
    SPANS_DROPPED.description(),
    READY.description(),
    BUILD_INFO.description(),
    CPU.description(),
    OPEN_FILES.description(),
    MAX_FILES.description(),
    VIRTUAL_MEMORY.description(),
    MAX_VIRTUAL_MEMORY.description(),
    MEMORY.description(),
    STARTED.description(),
    THREADS.description(),
];
