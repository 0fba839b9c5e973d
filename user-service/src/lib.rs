//! The user service: the users and their outbox in Postgres, and the relay that brings the
//! outbox to `JetStream`.

pub mod admin;
pub mod app;
pub mod config;
mod contract;
mod idempotency;
mod live_page;
mod migrations;
mod outbox_api;
mod problems;
mod users;
