//! The contract between the user service and whoever follows its events: what an event looks
//! like on the wire, under which names it travels, and which headers go with it.
//!
//! Nothing here belongs to one side alone.

mod asyncapi;
mod event;
pub mod headers;
mod later_fields;
mod topic;

pub use asyncapi::asyncapi;
pub use event::{UnreadableEvent, UserEvent, UserState};
pub use topic::Topic;
