//! The service against real servers, which `TEST_NATS_URL` and `TEST_MONGODB_URI` name.

mod consumer;
mod dead_letters;
mod digests;
mod events;
mod fail_points;
mod freshness;
mod holes;
mod late_replays;
mod live;
mod metrics;
mod openapi;
mod operator;
mod outages;
mod projection;
mod put_back;
mod reading;
mod rebuild;
mod recovery;
mod replays;
mod replica_set;
mod support;
mod users_api;
mod verification;
mod verify;
mod waiting;
mod withdrawal;
