//! What waits at a consumer.

/// What the server says of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Messages that were not delivered yet.
    pub pending: u64,
    /// Messages that were delivered and are not acknowledged.
    pub unacknowledged: u64,
    /// Those of them that were delivered more than once.
    pub redelivered: u64,
    /// All messages up to this sequence are acknowledged.
    pub ack_floor: u64,
    /// Those that the consumer has rejected; `None` if that could not be found out.
    pub dead_letters: Option<u64>,
}
