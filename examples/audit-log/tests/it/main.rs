//! The audit log against real servers, which `TEST_DATABASE_URL`, `TEST_NATS_URL` and
//! `TEST_MONGODB_URI` name.

mod faults;
mod recording;
mod rejected;
mod support;
