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
mod held;
mod markdown;
mod own;
#[cfg(feature = "http")]
mod recorder;
mod scrape;
#[cfg(feature = "http")]
mod settings;

pub(crate) use self::own::{NATS_CONNECTED, SESSIONS_FAILED};
pub use self::{
    declaration::{COUNTS, Counter, Description, Gauge, Histogram, Kind, SECONDS},
    held::Held,
    markdown::markdown,
    own::METRICS,
    scrape::on_scrape,
};
#[cfg(feature = "http")]
pub(crate) use self::{
    own::{
        CONNECTIONS, CONNECTIONS_MAX, READY, REJECTED, REQUEST_DURATION, REQUESTS_IN_FLIGHT,
        REQUESTS_IN_FLIGHT_MAX, SPANS_DROPPED, SPANS_EXPORTED,
    },
    recorder::{is_installed, maintain, render},
};
#[cfg(feature = "http")]
pub use self::{
    recorder::install,
    settings::{Collection, MetricsSettings},
};
