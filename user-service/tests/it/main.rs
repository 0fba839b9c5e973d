//! The user service over its real binary, on real servers.

mod addresses;
mod api;
mod cluster;
mod completeness;
mod conditional;
mod digests;
mod fail_over;
mod health;
mod id_sequence;
mod idempotency;
mod import;
mod import_limits;
mod ledger_loss;
mod ledger_migration;
mod migration;
mod openapi;
mod operator;
mod outage;
mod pgbouncer;
mod problems;
mod relay;
mod repair;
mod retention;
mod stream_loss;
mod support;
