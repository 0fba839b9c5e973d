//! What both services share at run time, and nothing else: logs, shutdown, HTTP serving, problem
//! details, health, metrics, waiting for what is not there yet, and NATS.
//!
//! Libraries that serve nothing do without the feature `http`, and so without axum and its company.

pub mod backoff;
pub mod connection_url;
#[cfg(feature = "http")]
pub mod digests;
#[cfg(feature = "http")]
pub mod etag;
pub mod health;
#[cfg(feature = "http")]
pub mod http;
pub mod metrics;
pub mod nats;
pub mod number;
#[cfg(feature = "http")]
pub mod openapi;
#[cfg(feature = "http")]
pub mod operator;
#[cfg(feature = "http")]
pub mod page;
#[cfg(feature = "http")]
pub mod problem;
pub mod progress;
#[cfg(feature = "http")]
mod query;
pub mod sessions;
pub mod settings;
pub mod tasks;
pub mod telemetry;
pub mod terminal;
