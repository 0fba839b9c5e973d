//! The program `outbox-relay`, and the SQL that producers and operators see.

mod contract;
mod metrics;
mod operator;
mod quickstart;
mod restored;
mod support;
mod waiting;
