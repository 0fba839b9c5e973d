//! The whole way of an event, over the started binaries and real servers: what is promised must
//! hold whatever is stopped, killed, frozen or said twice.

mod alerts;
mod back_pressure;
mod catalogue;
mod conformance;
mod convergence;
mod crashes;
mod fail_over;
mod live_page;
mod load;
mod metrics;
mod ordering;
mod outages;
mod personal_data;
mod poison;
mod rebuild;
mod repair;
mod restores;
mod schema_change;
mod secrets;
mod shared_consumer;
mod start_and_stop;
mod support;
mod traces;
mod verification;
