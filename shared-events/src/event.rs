//! The body of an event: `{"type": "user_created", "payload": {…}}`.

use chrono::{DateTime, Utc};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Deserializer, Serialize};

/// A user as one version of it was, in full: an event carries the state, not the difference, so
/// that any one event is enough to bring a copy up to date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserState {
    /// At least 1, never given to another user.
    #[serde(deserialize_with = "positive")]
    #[schemars(range(min = 1))]
    pub id: i64,
    pub name: String,
    pub email: String,
    /// When this version was written, in whole milliseconds.
    pub updated_at: DateTime<Utc>,
    /// The user's own count of changes: 1 at creation, one more for each change.
    #[serde(deserialize_with = "positive")]
    #[schemars(range(min = 1))]
    pub version: i64,
}

/// What happened to a user. Fields that a reader does not know are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", content = "payload", rename_all = "snake_case")]
pub enum UserEvent {
    UserCreated(UserState),
    UserUpdated(UserState),
    /// Carries the last state; its version is one above that of the state it ended.
    UserDeleted(UserState),
}

/// Why bytes are no event that this version of the contract knows. No repeat will change that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableEvent {
    #[error("not JSON: {0}")]
    NotJson(String),
    #[error("unknown event type {0:?}")]
    UnknownType(String),
    #[error("not shaped like an event: {0}")]
    WrongShape(String),
}

impl UserEvent {
    /// Reads an event from the bytes of a message.
    ///
    /// # Errors
    /// [`UnreadableEvent`] says which of the ways it is not an event.
    pub fn parse(bytes: &[u8]) -> Result<Self, UnreadableEvent> {
        serde_json::from_slice(bytes).map_err(|error| Self::explain(bytes, &error))
    }

    /// The JSON Schema (2020-12) of an event, as `schema/user-event.json` has it.
    #[must_use]
    pub fn json_schema() -> Schema {
        schemars::schema_for!(Self)
    }

    /// The user's state that the event carries.
    #[must_use]
    pub fn state(&self) -> &UserState {
        match self {
            Self::UserCreated(state) | Self::UserUpdated(state) | Self::UserDeleted(state) => state,
        }
    }

    /// Only bytes that did not parse are read twice, to tell a new type from a broken one.
    fn explain(bytes: &[u8], error: &serde_json::Error) -> UnreadableEvent {
        #[derive(Deserialize)]
        struct Tagged {
            r#type: String,
        }
        const KNOWN: [&str; 3] = ["user_created", "user_updated", "user_deleted"];

        if error.is_syntax() || error.is_eof() {
            return UnreadableEvent::NotJson(error.to_string());
        }
        match serde_json::from_slice::<Tagged>(bytes) {
            Ok(tagged) if !KNOWN.contains(&tagged.r#type.as_str()) => {
                UnreadableEvent::UnknownType(tagged.r#type)
            }
            _ => UnreadableEvent::WrongShape(error.to_string()),
        }
    }
}

fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let value = i64::deserialize(deserializer)?;
    if value < 1 {
        return Err(serde::de::Error::custom(format!(
            "expected a number of at least 1, got {value}"
        )));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::{UnreadableEvent, UserEvent, UserState};
    use chrono::DateTime;
    use proptest::prelude::*;
    use serde_json::json;

    const CREATED: &str = r#"{"type":"user_created","payload":{"id":1,"name":"Ada","email":"ada@example.com","updated_at":"2026-01-02T03:04:05.678Z","version":1}}"#;

    #[test]
    fn an_event_reads_and_writes_as_the_contract_says() {
        let event = UserEvent::parse(CREATED.as_bytes()).expect("the contract's own example");
        assert_eq!(event.state().version, 1);
        assert_eq!(
            serde_json::to_string(&event).expect("an event is JSON"),
            CREATED
        );
    }

    #[test]
    fn a_field_from_the_future_is_ignored() {
        let bytes = CREATED.replace("\"id\":1", "\"id\":1,\"phone\":\"1\"");
        assert!(UserEvent::parse(bytes.as_bytes()).is_ok());
    }

    #[test]
    fn bytes_that_are_no_event_say_why() {
        let parse = |bytes: &[u8]| UserEvent::parse(bytes).expect_err("not an event");
        assert!(matches!(parse(b"hello"), UnreadableEvent::NotJson(_)));
        assert!(matches!(parse(b""), UnreadableEvent::NotJson(_)));
        assert!(matches!(parse(b"\xff\xfe"), UnreadableEvent::NotJson(_)));
        assert!(matches!(parse(b"[]"), UnreadableEvent::WrongShape(_)));
        assert!(matches!(
            parse(br#"{"type":"user_created"}"#),
            UnreadableEvent::WrongShape(_)
        ));
        assert_eq!(
            parse(br#"{"type":"user_merged","payload":{}}"#),
            UnreadableEvent::UnknownType("user_merged".to_owned())
        );
        for (field, value) in [("id", json!(0)), ("version", json!(-1)), ("name", json!(7))] {
            let mut event: serde_json::Value = serde_json::from_str(CREATED).expect("JSON");
            event["payload"][field] = value;
            assert!(
                matches!(
                    parse(event.to_string().as_bytes()),
                    UnreadableEvent::WrongShape(_)
                ),
                "{field}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_event_survives_the_wire(
            id in 1..i64::MAX, version in 1..i64::MAX, name in ".*", email in ".*",
            millis in 0..4_000_000_000_000_i64,
        ) {
            let updated_at = DateTime::from_timestamp_millis(millis).expect("in range");
            let event = UserEvent::UserUpdated(UserState { id, name, email, updated_at, version });
            let bytes = serde_json::to_vec(&event).expect("an event is JSON");
            prop_assert_eq!(UserEvent::parse(&bytes), Ok(event));
        }
    }
}
