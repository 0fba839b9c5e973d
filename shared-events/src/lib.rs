//! The contract between the user service and whoever follows its events: what an event looks
//! like on the wire, and on which stream and subject it travels unless configured otherwise.
//!
//! Nothing here belongs to one side alone.

mod asyncapi;
mod digest;
mod event;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod later_fields;
mod object;

pub use asyncapi::asyncapi;
pub use digest::user_digest;
pub use event::{UnreadableEvent, UserEvent, UserState};
pub use object::Object;

/// The stream that keeps the events.
pub const DEFAULT_STREAM: &str = "USER_EVENTS";
/// The one subject that the stream captures.
pub const DEFAULT_SUBJECT: &str = "user.events";
