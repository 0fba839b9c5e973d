//! What every request meets, against a server that listens.

mod access;
mod answers;
mod connections;
mod deadlines;
mod limits;
mod metrics;
mod support;
mod tokens;
mod withdrawal;
