//! NATS: the connection, the names of streams and subjects, the streams' settings and the headers of
//! events. Knows no event.

mod connection;
pub mod headers;
pub mod stream;
mod topic;

pub use self::{
    connection::{NatsSettings, connect},
    topic::Topic,
};
