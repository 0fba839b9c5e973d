//! Example of a second consumer of the user events: an audit log in Postgres.
//!
//! Every event becomes one row of `audit_entry`, whatever fails and however often the event is
//! delivered: its id is stored in the table `inbox` by the statement that writes the row.

pub mod app;
mod audit_log;
pub mod config;
mod entry;
mod position_store;
mod store;
