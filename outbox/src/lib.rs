//! A transactional outbox in Postgres, and the relay that brings it to NATS `JetStream`.
//!
//! A producer appends its events in the transaction of what they tell, from any language:
//!
//! ```sql
//! begin;
//! update account set balance = balance - 10 where id = 7;
//! select outbox.append('account', '7', 'account_debited', '{"amount": 10}');
//! commit;
//! ```
//!
//! One active relay per database publishes them without loss, usually within milliseconds, and in
//! order for each aggregate (of one type and id). Each aggregate type has a [`Route`] to a stream and
//! its subject. A program runs the relay like this:
//!
//! ```no_run
//! # async fn example(config: outbox::RelayConfig) -> anyhow::Result<()> {
//! use service_runtime::progress::Progress;
//! use tokio_util::sync::CancellationToken;
//!
//! let url = "postgres://postgres@localhost:5432/shop".parse()?;
//! let routes = outbox::Routes::new(["account=ACCOUNTS:account.events".parse().map_err(anyhow::Error::msg)?])?;
//! outbox::migrate(&url).await?;
//! let relay = outbox::Relay {
//!     pool: outbox::relay_pool(&url, &routes)?,
//!     routes,
//!     config,
//!     written: outbox::Written::default(),
//!     progress: Progress::new("relay"),
//! };
//! relay.run(CancellationToken::new()).await
//! # }
//! ```
//!
//! Everything is in the schema `outbox`, which [`migrate`] makes. [`inspect`] tells what is pending,
//! [`parked`] keeps what can't be published until an operator decides.

pub mod admin;
mod config;
pub mod feed;
/// What is fuzzed here: see `fuzz/`.
#[cfg(any(test, fuzzing))]
pub mod fuzzing {
    pub use crate::relay::fuzzing::cursor;
}
mod header_reader;
pub mod inspect;
pub mod journey;
mod ledger;
pub mod metrics;
mod nats_on_demand;
pub mod parked;
mod partitions;
pub mod reconciliation;
mod relay;
pub mod republish_run;
mod route;
mod said;
mod sampler;
mod schema;
pub mod status;
#[cfg(test)]
mod tests;
mod wake;

pub use self::{
    config::RelayConfig,
    nats_on_demand::NatsOnDemand,
    relay::{Relay, relay_pool},
    route::{Route, Routes},
    sampler::Sampler,
    schema::migrate,
    wake::Written,
};
