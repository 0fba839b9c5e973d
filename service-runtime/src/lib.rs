//! What both services share at run time, and nothing else: logs, shutdown, HTTP serving, problem
//! details, health, waiting for what is not there yet, and NATS.

pub mod backoff;
pub mod connection_url;
pub mod etag;
pub mod health;
pub mod http;
pub mod nats;
pub mod openapi;
pub mod page;
pub mod problem;
pub mod progress;
pub mod sessions;
pub mod settings;
pub mod tasks;
pub mod telemetry;
pub mod terminal;
