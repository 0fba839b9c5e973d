//! What is recorded of an event.

use chrono::{DateTime, Utc};
use event_consumer::{Message, Rejection};
use shared_events::UserEvent;
use uuid::Uuid;

/// One event, ready to be written.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) event_id: Uuid,
    pub(crate) event_type: &'static str,
    pub(crate) user_id: i64,
    pub(crate) version: i64,
    pub(crate) happened_at: DateTime<Utc>,
    /// The event as it was published.
    pub(crate) body: String,
}

impl Entry {
    /// # Errors
    /// If the message is no event, or has no id by which a repeat could be told.
    pub(crate) fn parse(message: &Message) -> Result<Self, Rejection> {
        let event = UserEvent::parse(message.payload())
            .map_err(|fault| Rejection::new(fault.category(), fault.to_string()))?;
        let body = str::from_utf8(message.payload())
            .map_err(|fault| Rejection::new("not_utf_8", fault.to_string()))?;
        let state = event.state();
        Ok(Self {
            event_id: event_id(message)?,
            event_type: event_type(&event),
            user_id: state.id,
            version: state.version,
            happened_at: state.updated_at,
            body: body.to_owned(),
        })
    }
}

/// The same for every repeat, be it a redelivery or a replay.
fn event_id(message: &Message) -> Result<Uuid, Rejection> {
    let id = message.id().unwrap_or_default();
    id.parse().map_err(|fault| {
        Rejection::new("no_event_id", format!("the message id is no UUID: {fault}"))
    })
}

fn event_type(event: &UserEvent) -> &'static str {
    match event {
        UserEvent::UserCreated(_) => "user_created",
        UserEvent::UserUpdated(_) => "user_updated",
        UserEvent::UserDeleted(_) => "user_deleted",
    }
}
