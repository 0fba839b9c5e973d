//! A transactional outbox in Postgres, and the relay that brings it to NATS `JetStream`.
//!
//! A producer inserts its events in the transaction of what they tell. A relay publishes them
//! without loss, usually within milliseconds, and in order for each aggregate.

mod config;
mod ledger;
pub mod parked;
mod partitions;
pub mod relay;
pub mod republish_run;
#[cfg(test)]
mod test_schema;
mod wake;

pub use self::{
    config::RelayConfig,
    ledger::{Backlog, OutboxEvent, backlog, find, pending},
    wake::{Wake, Written, notify_relays},
};
