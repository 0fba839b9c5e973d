//! Metrics: what a crate counts and measures, declared once, and how Prometheus gets it.
//!
//! Each crate declares its own in a file `metrics.rs` and lists them there; the lists make
//! docs/metrics.md. A handle is cheap to use and expensive to get: whatever is measured often keeps
//! its handles in a struct.
//!
//! ```
//! use service_runtime::metrics::{Counter, Description, Histogram, SECONDS};
//!
//! const PUBLISHED: Counter<1> = Counter::new(
//!     "outbox_published_total",
//!     ["stream"],
//!     "Events that the stream has acknowledged.",
//! );
//! const PUBLISHING: Histogram<0> =
//!     Histogram::new("outbox_publish_duration_seconds", [], SECONDS, "From sent to acknowledged.");
//!
//! pub const METRICS: &[Description] = &[PUBLISHED.description(), PUBLISHING.description()];
//!
//! let published = PUBLISHED.with(["USERS"]);
//! published.increment(1);
//! ```
//!
//! A program that serves begins with `install`. A handle that was got before that, or without it (in
//! commands, in most tests, with `METRICS=off`), does nothing.

mod declaration;
#[cfg(feature = "http")]
mod endpoint;
mod held;
mod markdown;
#[cfg(feature = "http")]
mod recorder;
mod scrape;
#[cfg(feature = "http")]
mod settings;

pub use self::{
    declaration::{COUNTS, Counter, Description, Gauge, Histogram, Kind, SECONDS},
    held::Held,
    markdown::markdown,
    scrape::on_scrape,
};
#[cfg(feature = "http")]
pub(crate) use self::{
    endpoint::{description, router},
    recorder::maintain,
};
#[cfg(feature = "http")]
pub use self::{
    recorder::install,
    settings::{Collection, MetricsSettings},
};

/// Of the sessions of a task that lasts as long as its process.
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

/// Those of this crate.
#[cfg(feature = "http")]
pub const METRICS: &[&[Description]] = &[
    &[SESSIONS_FAILED.description(), NATS_CONNECTED.description()],
    crate::http::METRICS,
    crate::telemetry::METRICS,
    endpoint::METRICS,
    recorder::PROCESS,
];
