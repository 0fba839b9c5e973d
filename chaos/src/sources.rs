//! What the servers have, asked directly and read without a line of the services' own code.

pub(crate) mod event;
pub(crate) mod mongodb;
pub(crate) mod nats;
pub(crate) mod postgres;
