//! The kinds of faults: how often, of what, and for how long.

use std::ops::RangeInclusive;

use clap::ValueEnum;

use crate::stack::{CLIENT_WIRES, PROCESSES, SERVERS, WIRES};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// SIGKILL of a process, which is started again after a while
    Kill,
    /// SIGSTOP of a process (Postgres with all its backends), SIGCONT after a while
    Freeze,
    /// A server is frozen for 25 to 40 seconds, longer than any deadline
    Outage,
    /// Connections are closed, and new ones as soon as they come
    Cut,
    /// Connections are accepted, and nothing passes
    Stall,
    /// The connections that exist fall silent without being closed; new ones work
    BlackHole,
    /// Everything arrives later, by 50 to 500 ms in each direction
    Delay,
    /// What the caller says does not arrive; what the server says does
    HalfOpenCaller,
    /// What the server says does not arrive; what the caller says does
    HalfOpenServer,
    /// A few kilobytes a second pass
    Throttle,
    /// Postgres shuts down without waiting for its clients, and is started again
    PostgresRestart,
    /// A base backup of Postgres takes the place of the server, which has written more since
    PostgresRestore,
    /// An asynchronous standby that is behind takes the place of its primary
    PostgresPromotion,
    /// The stream is deleted
    StreamDelete,
    /// All messages of the stream are purged
    StreamPurge,
    /// The older messages of the stream are purged
    StreamPurgeOlder,
    /// Single messages of the stream are deleted
    MessageDelete,
    /// An older copy of all that NATS stores takes its place
    NatsStoreRestore,
    /// The durable consumer is deleted
    ConsumerDelete,
    /// The primary of MongoDB gives up its place
    MongodbStepDown,
    /// MongoDB takes no writes (fsyncLock)
    MongodbLock,
    /// What MongoDB stored a while ago takes the place of the server, which has written more since
    MongodbRestore,
    /// An operator rebuilds the copy, and is killed if that takes too long
    Rebuild,
    /// The disk of a server is full; needs --disks
    DiskFull,
    /// Clients send their requests byte by byte
    TrickleClients,
    /// Clients ask and do not read the answers
    DeafClients,
    /// Clients open connections and say nothing
    SilentClients,
}

impl Kind {
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// How often it is drawn, beside the others.
    pub(super) fn weight(self) -> u32 {
        match self {
            Self::Kill | Self::Freeze => 24,
            Self::Cut | Self::Stall | Self::BlackHole => 16,
            Self::HalfOpenCaller | Self::HalfOpenServer | Self::Delay => 12,
            Self::Throttle => 6,
            Self::MongodbStepDown | Self::PostgresRestart => 4,
            Self::TrickleClients | Self::DeafClients | Self::SilentClients => 3,
            Self::ConsumerDelete | Self::MongodbLock | Self::MessageDelete => 3,
            Self::PostgresRestore | Self::PostgresPromotion | Self::Rebuild => 2,
            Self::MongodbRestore => 2,
            Self::StreamDelete | Self::StreamPurge | Self::StreamPurgeOlder => 1,
            Self::NatsStoreRestore | Self::Outage => 1,
            Self::DiskFull => 3,
        }
    }

    pub(super) fn targets(self) -> &'static [&'static str] {
        match self {
            Self::Kill | Self::Freeze => &PROCESSES,
            Self::Outage | Self::DiskFull => &SERVERS,
            Self::Cut
            | Self::Stall
            | Self::BlackHole
            | Self::Delay
            | Self::HalfOpenCaller
            | Self::HalfOpenServer
            | Self::Throttle => &WIRES,
            Self::PostgresRestart | Self::PostgresRestore | Self::PostgresPromotion => {
                &["postgres"]
            }
            Self::StreamDelete
            | Self::StreamPurge
            | Self::StreamPurgeOlder
            | Self::MessageDelete
            | Self::NatsStoreRestore
            | Self::ConsumerDelete => &["nats"],
            Self::MongodbStepDown | Self::MongodbLock | Self::MongodbRestore => &["mongodb"],
            Self::Rebuild => &["copy"],
            Self::TrickleClients | Self::DeafClients | Self::SilentClients => &CLIENT_WIRES,
        }
    }

    /// In milliseconds. Now and then longer than leases and deadlines.
    pub(super) fn lasts(self, is_long: bool) -> RangeInclusive<u64> {
        match self {
            Self::Outage => 25_000..=40_000,
            Self::Freeze
            | Self::Stall
            | Self::BlackHole
            | Self::HalfOpenCaller
            | Self::HalfOpenServer
                if is_long =>
            {
                5000..=15_000
            }
            Self::Kill | Self::Cut => 0..=1500,
            Self::Rebuild => 100..=10_000,
            Self::PostgresRestore | Self::PostgresPromotion | Self::MongodbRestore => 500..=2000,
            Self::MongodbStepDown => 1000..=2000,
            Self::StreamDelete
            | Self::StreamPurge
            | Self::StreamPurgeOlder
            | Self::MessageDelete
            | Self::ConsumerDelete
            | Self::PostgresRestart => 0..=0,
            _ => 100..=3000,
        }
    }

    /// Whether writes of Postgres are lost that were acknowledged.
    pub(crate) fn loses_writes(self) -> bool {
        matches!(self, Self::PostgresRestore | Self::PostgresPromotion)
    }

    /// Whether messages of the stream are lost that were acknowledged.
    pub(crate) fn loses_messages(self) -> bool {
        matches!(
            self,
            Self::StreamDelete
                | Self::StreamPurge
                | Self::StreamPurgeOlder
                | Self::MessageDelete
                | Self::NatsStoreRestore
                | Self::DiskFull
        )
    }
}
