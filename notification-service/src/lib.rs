//! Follows the user events on JetStream into a copy in MongoDB, and serves that copy.

pub mod admin;
pub mod app;
pub mod config;
mod consumer;
mod dead_letters;
mod holes;
mod lag;
mod live;
pub mod metrics;
mod mongo;
mod notifications;
mod problems;
mod projection;
mod projector;
mod rebuild;
mod verification;
mod verify;
