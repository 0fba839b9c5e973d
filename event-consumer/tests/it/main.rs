//! The library against a real NATS server, which `TEST_NATS_URL` names, with handlers in memory.

mod back_pressure;
mod draining;
mod headers;
mod holes;
mod incarnations;
mod quarantine;
mod recovery;
mod standstill;
mod support;
mod verdicts;
