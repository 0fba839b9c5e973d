//! A durable `JetStream` consumer as a library: batches of messages to a [`Handler`], which gives
//! one [`Verdict`] on each.
//!
//! The library pulls messages, sizes the batches by the time that the handler takes, acknowledges
//! what has taken effect, has the rest delivered again, stores what can never take effect as a
//! [dead letter](dead_letters), and survives messages that the NATS client can't read. It measures
//! the [lag](Lag) and finds [messages that left the stream unread](Holes). It knows neither the
//! messages' meaning nor where the handler's effects go.
//!
//! Messages are delivered *at least once* and in no particular order: several batches are handled
//! at once, and a message that failed comes again behind later ones. Handlers are idempotent and
//! compare versions, or store the message's id in the same transaction as the effect.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use event_consumer::{ConsumerSettings, EventConsumer, Handler, HandlerError, Message, Rejection, Verdict};
//! use service_runtime::{nats::{NatsSettings, Topic}, progress::Progress, tasks::Tasks};
//!
//! struct Printer;
//!
//! impl Handler for Printer {
//!     async fn prepare(&self) -> anyhow::Result<()> {
//!         Ok(())
//!     }
//!
//!     async fn handle(&self, batch: &[Message]) -> Result<Vec<Verdict>, HandlerError> {
//!         let print = |message: &Message| match str::from_utf8(message.payload()) {
//!             Ok(text) => {
//!                 println!("{text}");
//!                 Verdict::Ack
//!             }
//!             Err(error) => Verdict::Reject(Rejection::new("not_utf_8", error.to_string())),
//!         };
//!         Ok(batch.iter().map(print).collect())
//!     }
//! }
//!
//! # async fn run() -> anyhow::Result<()> {
//! let settings = ConsumerSettings {
//!     nats: NatsSettings::open("nats://localhost:4222".parse()?),
//!     connection_name: "printer",
//!     topic: Topic { stream: "GREETINGS".to_owned(), subject: "greetings".to_owned() },
//!     consumer: "printer".parse().map_err(anyhow::Error::msg)?,
//!     ack_wait: Duration::from_secs(10),
//! };
//! let consumer = EventConsumer::new(settings, Printer, Progress::new("printer"));
//! let mut tasks = Tasks::new();
//! tasks.spawn("printer", consumer.run(tasks.shutdown(), Duration::from_secs(5)));
//! tasks.run(Duration::from_secs(10)).await
//! # }
//! ```

mod backlog;
mod batch_processor;
mod batch_size;
mod connection;
mod consumer;
pub mod dead_letters;
mod decisions;
mod durable;
/// What is fuzzed here: see `fuzz/`.
#[cfg(any(test, fuzzing))]
pub mod fuzzing {
    pub use crate::{dead_letters::fuzzing::dead_letter, quarantine::fuzzing::quarantine};
}
mod handler;
pub mod holes;
mod incarnation;
mod lag;
pub mod message;
pub mod metrics;
pub mod pause;
mod pull_subscription;
mod quarantine;
pub mod raw_message;
mod session;
pub mod spans;

pub use service_runtime::nats::ConsumerName;

pub use self::{
    backlog::Backlog,
    connection::Connection,
    consumer::{ConsumerSettings, EventConsumer},
    handler::{Handler, HandlerError, Rejection, Verdict},
    holes::Holes,
    lag::Lag,
    message::{Delivery, Message},
};
