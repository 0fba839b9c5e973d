//! The user service: the users and their outbox in Postgres, and the relay that brings the
//! outbox to `JetStream`.

pub mod admin;
pub mod app;
pub mod config;
mod contract;
/// What is fuzzed here: see `fuzz/`.
#[cfg(any(test, fuzzing))]
pub mod fuzzing {
    pub use crate::users::fuzzing::{import, merge_patch};
}
mod idempotency;
mod live_page;
mod migrations;
mod outbox_api;
mod problems;
mod users;
