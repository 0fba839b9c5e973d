//! The steps of the protocol, and the code that each stands for.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Write { key: u8, deletes: bool },
    Commit { id: u8 },
    RollBack { id: u8 },
    BackUp,
    Restore,
    Acquire { relay: usize },
    Begin { relay: usize },
    Read { relay: usize },
    ReadGaps { relay: usize },
    AbandonGap { relay: usize, id: u8 },
    Send { relay: usize, id: u8 },
    Store { relay: usize, id: u8 },
    LoseMessage { relay: usize, id: u8 },
    LoseAck { relay: usize, id: u8 },
    Conclude { relay: usize, id: u8 },
    Save { relay: usize },
    NoticeLostTail { relay: usize },
    LookUpLoss { relay: usize },
    NoteLoss { relay: usize },
    NoteRefill { relay: usize },
    NoticeOrphans { relay: usize },
    CrashRelay { relay: usize },
    ArriveLate { number: u8 },
    ArriveSave,
    LoseTail { messages: u8 },
    LoseMessageOfStream { sequence: u8 },
    ForgetDuplicates,
    Handle { sequence: u8 },
    Finish { sequence: u8 },
    CrashConsumer,
    Rewind,
    Look,
    ArrivePosition,
    GoBack,
    BackUpCopy,
    PutBack,
}

/// A step of the model, for its documentation.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub name: &'static str,
    /// What it stands for: a file of the code; for faults nothing.
    pub file: &'static str,
}

const fn step(name: &'static str, file: &'static str) -> Step {
    Step { name, file }
}

/// All steps that are not faults, in the order of an event's path.
pub const STEPS: &[Step] = &[
    step(
        "a write draws an id, holds its aggregate's lock, and commits or is rolled back",
        "user-service/src/users/store.rs",
    ),
    step("a relay takes the lease", "outbox/src/relay/lease.rs"),
    step(
        "a session begins at the saved cursor, or at a checkpoint",
        "outbox/src/relay/start.rs",
    ),
    step(
        "events that the database lacks are looked up, and their aggregates restated",
        "outbox/src/relay/orphans.rs",
    ),
    step(
        "events of missing messages are taken back into the cursor",
        "outbox/src/relay/stream_loss.rs",
    ),
    step(
        "the new events are read, then the gaps; a gap is abandoned",
        "outbox/src/relay/reader.rs",
    ),
    step(
        "an event is sent, unless its aggregate has one in flight",
        "outbox/src/relay/per_key_queue.rs",
    ),
    step(
        "an acknowledgement is concluded",
        "outbox/src/relay/publisher.rs",
    ),
    step(
        "the cursor is saved, with a checkpoint",
        "outbox/src/relay/cursor.rs",
    ),
    step(
        "a lost end of the stream is noticed",
        "outbox/src/relay/stream_check.rs",
    ),
    step(
        "the events of a missing message are looked up, and noted",
        "outbox/src/relay/stream_loss/window.rs",
    ),
    step(
        "events of missing messages are noted to be there again",
        "outbox/src/relay/stream_loss/store.rs",
    ),
    step(
        "messages of others are noticed",
        "outbox/src/relay/orphans/lookup.rs",
    ),
    step(
        "an event is applied",
        "notification-service/src/projection/command.rs",
    ),
    step(
        "its message is acknowledged",
        "event-consumer/src/batch_processor.rs",
    ),
    step(
        "the consumer goes back to where the stream has changed",
        "event-consumer/src/incarnation.rs",
    ),
    step(
        "what is settled is looked at, and the position saved beside the copy",
        "event-consumer/src/holes.rs",
    ),
    step(
        "the consumer goes back to what the copy has",
        "event-consumer/src/durable.rs",
    ),
];

/// For counterexamples. Users are letters, relays and all else are numbers.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = |key: u8| char::from(b'A' + key);
        match *self {
            Self::Write {
                key,
                deletes: false,
            } => write!(f, "write {}", user(key)),
            Self::Write { key, deletes: true } => write!(f, "delete {}", user(key)),
            Self::Commit { id } => write!(f, "commit {id}"),
            Self::RollBack { id } => write!(f, "roll back {id}"),
            Self::BackUp => write!(f, "**back up**"),
            Self::Restore => write!(f, "**restore**"),
            Self::Acquire { relay } => write!(f, "relay {relay} takes the lease"),
            Self::Begin { relay } => write!(f, "relay {relay} begins"),
            Self::Read { relay } => write!(f, "relay {relay} reads"),
            Self::ReadGaps { relay } => write!(f, "relay {relay} reads again"),
            Self::AbandonGap { relay, id } => write!(f, "relay {relay} abandons {id}"),
            Self::Send { relay, id } => write!(f, "relay {relay} sends {id}"),
            Self::Store { id, .. } => write!(f, "the stream stores {id}"),
            Self::LoseMessage { id, .. } => write!(f, "**{id} is lost on its way**"),
            Self::LoseAck { id, .. } => write!(f, "**the acknowledgement of {id} is lost**"),
            Self::Conclude { relay, id } => write!(f, "relay {relay} concludes {id}"),
            Self::Save { relay } => write!(f, "relay {relay} saves the cursor"),
            Self::NoticeLostTail { relay } => write!(f, "relay {relay} notices the lost end"),
            Self::LookUpLoss { relay } => write!(f, "relay {relay} looks up what is missing"),
            Self::NoteLoss { relay } => write!(f, "relay {relay} notes it"),
            Self::NoteRefill { relay } => write!(f, "relay {relay} notes the refill"),
            Self::NoticeOrphans { relay } => write!(f, "relay {relay} notices orphans"),
            Self::CrashRelay { relay } => write!(f, "**relay {relay} is killed**"),
            Self::ArriveLate { number } => write!(f, "**event {number} arrives late**"),
            Self::ArriveSave => write!(f, "**the cursor of an earlier session is saved late**"),
            Self::LoseTail { messages } => {
                write!(f, "**the stream loses its end ({messages})**")
            }
            Self::LoseMessageOfStream { sequence } => {
                write!(f, "**message {sequence} is deleted**")
            }
            Self::ForgetDuplicates => write!(f, "**the duplicate window passes**"),
            Self::Handle { sequence } => write!(f, "the consumer handles message {sequence}"),
            Self::Finish { sequence } => write!(f, "and is done with {sequence}"),
            Self::CrashConsumer => write!(f, "**the consumer is killed**"),
            Self::Rewind => write!(f, "the consumer goes back"),
            Self::Look => write!(f, "the consumer looks"),
            Self::ArrivePosition => write!(f, "its position is saved"),
            Self::GoBack => write!(f, "the consumer goes back to what the copy has"),
            Self::BackUpCopy => write!(f, "**back up the copy**"),
            Self::PutBack => write!(f, "**the copy is put back**"),
        }
    }
}
