//! What the code rests on.

/// A mechanism of the code that can be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Guard {
    Version,
    Tombstone,
    AckAfterWrite,
    Rewind,
    KnownStore,
    Claim,
    CursorAfterAck,
    OneInFlight,
    EpochFence,
    Session,
    Gaps,
    NewFirst,
    GapBound,
    StopAtFailure,
    TailCheck,
    KnownBeginning,
    Refill,
    NewMessageId,
    PassedMeanwhile,
    Orphans,
    Strangers,
    RestatedAbove,
    KnownDeletion,
    Superseded,
}

impl Guard {
    pub const ALL: [Self; 24] = [
        Self::Version,
        Self::Tombstone,
        Self::AckAfterWrite,
        Self::Rewind,
        Self::KnownStore,
        Self::Claim,
        Self::CursorAfterAck,
        Self::OneInFlight,
        Self::EpochFence,
        Self::Session,
        Self::Gaps,
        Self::NewFirst,
        Self::GapBound,
        Self::StopAtFailure,
        Self::TailCheck,
        Self::KnownBeginning,
        Self::Refill,
        Self::NewMessageId,
        Self::PassedMeanwhile,
        Self::Orphans,
        Self::Strangers,
        Self::RestatedAbove,
        Self::KnownDeletion,
        Self::Superseded,
    ];

    /// What it is.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Self::Version => "the copy takes only what is newer",
            Self::Tombstone => "a deletion leaves its version behind",
            Self::AckAfterWrite => "messages are acknowledged after the write",
            Self::Rewind => "consumers go back when an incarnation begins",
            Self::KnownStore => "a store is trusted only by who has watched it",
            Self::Claim => "what a save claims counts on the server that it was meant for",
            Self::CursorAfterAck => "the cursor moves behind acknowledgements",
            Self::OneInFlight => "one event of an aggregate is in flight at a time",
            Self::EpochFence => "a relay that has lost the lease moves no cursor",
            Self::Session => "a statement of a session that is over changes nothing",
            Self::Gaps => "ids that are missing are looked for again",
            Self::NewFirst => "new events are read before the gaps",
            Self::GapBound => "a gap is abandoned once its transaction has provably ended",
            Self::StopAtFailure => "after a failure no acknowledgement counts",
            Self::TailCheck => "the stream must still have the last event that it acknowledged",
            Self::KnownBeginning => "where the stream began stays known when the cursor moves back",
            Self::Refill => "events of messages that are missing are published again",
            Self::NewMessageId => {
                "a duplicate of a message that is missing is published under another id"
            }
            Self::PassedMeanwhile => "what passes while a loss is looked up is taken back as well",
            Self::Orphans => "what the stream has and the database lacks is restated",
            Self::Strangers => "what others publish is looked up before the tail passes it",
            Self::RestatedAbove => "the restated version is above that of the orphan",
            Self::KnownDeletion => {
                "a deletion is restated above the version that the ledger has of it"
            }
            Self::Superseded => "waiting events at or below the orphan's version are passed over",
        }
    }

    /// The file that has it.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::Version | Self::Tombstone => "notification-service/src/projection/command.rs",
            Self::AckAfterWrite => "event-consumer/src/batch_processor.rs",
            Self::Rewind => "event-consumer/src/incarnation.rs",
            Self::KnownStore => "event-consumer/src/holes/trust.rs",
            Self::Claim => "event-consumer/src/holes/position.rs",
            Self::CursorAfterAck | Self::StopAtFailure => "outbox/src/relay/publisher.rs",
            Self::OneInFlight => "outbox/src/relay/per_key_queue.rs",
            Self::EpochFence | Self::Session => "outbox/src/relay/owned.rs",
            Self::Gaps | Self::NewFirst | Self::GapBound => "outbox/src/relay/reader.rs",
            Self::TailCheck => "outbox/src/relay/stream_check.rs",
            Self::KnownBeginning => "outbox/src/relay/stream_loss/store.rs",
            Self::Refill | Self::NewMessageId => "outbox/src/relay/stream_loss.rs",
            Self::PassedMeanwhile => "outbox/src/relay/stream_loss/window.rs",
            Self::Orphans => "outbox/src/relay/orphans.rs",
            Self::Strangers => "outbox/src/relay/orphans/lookup.rs",
            Self::RestatedAbove => "schema/postgres/migrations/0010_restate_users.sql",
            Self::KnownDeletion => "schema/postgres/migrations/0011_deletions_above_the_ledger.sql",
            Self::Superseded => "outbox/src/relay/orphans/superseded.rs",
        }
    }
}
