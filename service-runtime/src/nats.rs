//! NATS: the connection, the names of streams and subjects, the streams' settings and the headers of
//! events. Knows no event.

mod connection;
mod consumer_name;
pub mod headers;
pub mod stream;
mod topic;

pub use self::{
    connection::{NatsSettings, connect, connect_once},
    consumer_name::ConsumerName,
    topic::Topic,
};
