//! The body of an event: `{"type": "user_created", "payload": {…}}`.

use chrono::{DateTime, Utc};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Deserializer, Serialize, de::IgnoredAny};
use serde_json::{Map, Value};

use crate::{Object, later_fields};

/// A user as one version of it was, in full: an event carries the state, not the difference, so
/// that any one event is enough to bring a copy up to date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserState {
    /// At least 1, never given to another user.
    #[serde(deserialize_with = "number")]
    #[schemars(range(min = 1, max = UserState::MAX_NUMBER))]
    pub id: i64,
    pub name: String,
    pub email: String,
    /// When this version was written, in whole milliseconds.
    pub updated_at: DateTime<Utc>,
    /// The user's own count of changes: 1 at creation, one more for each change.
    #[serde(deserialize_with = "number")]
    #[schemars(range(min = 1, max = UserState::MAX_NUMBER))]
    pub version: i64,
    /// Which revision of this schema the payload has. Of two events with the same version the one
    /// with the higher revision counts: it says the same of the user, and more.
    #[serde(
        default = "first_revision",
        deserialize_with = "revision",
        skip_serializing_if = "is_first_revision"
    )]
    #[schemars(range(min = 1))]
    pub revision: i32,
    /// The fields of a revision above [`UserState::REVISION`] that this release does not know.
    #[serde(flatten, skip_deserializing)]
    #[schemars(skip)]
    pub later_fields: Map<String, Value>,
}

impl UserState {
    /// The revision that this release knows all fields of. A release that adds a field raises it.
    pub const REVISION: i32 = 1;
    /// The greatest id and version. Leaves a user room for more changes than it will ever see,
    /// and arithmetic room for those who count on from there.
    pub const MAX_NUMBER: i64 = i64::MAX / 2;
}

/// What happened to a user. Fields that a reader does not know are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", content = "payload", rename_all = "snake_case")]
pub enum UserEvent {
    UserCreated(#[serde(deserialize_with = "object")] UserState),
    UserUpdated(#[serde(deserialize_with = "object")] UserState),
    /// Carries the last state; its version is one above that of the state it ended.
    UserDeleted(#[serde(deserialize_with = "object")] UserState),
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

impl UnreadableEvent {
    /// The same in one word, without anything from the message.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::NotJson(_) => "not_json",
            Self::UnknownType(_) => "unknown_type",
            Self::WrongShape(_) => "wrong_shape",
        }
    }
}

impl UserEvent {
    /// Reads an event from the bytes of a message.
    ///
    /// # Errors
    /// [`UnreadableEvent`] says which of the ways it is not an event.
    pub fn parse(bytes: &[u8]) -> Result<Self, UnreadableEvent> {
        // The parser does not look at fields that nobody reads.
        let text =
            str::from_utf8(bytes).map_err(|error| UnreadableEvent::NotJson(error.to_string()))?;
        let parsed = serde_json::from_str(text).map(|Object(event)| event);
        let mut event: Self = parsed.map_err(|error| Self::explain(text, &error))?;
        // Read twice, but only while the user service is of a later release.
        if event.state().revision > UserState::REVISION {
            let fields =
                later_fields::read(text, event.state()).map_err(UnreadableEvent::WrongShape)?;
            event.state_mut().later_fields = fields;
        }
        Ok(event)
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

    fn state_mut(&mut self) -> &mut UserState {
        match self {
            Self::UserCreated(state) | Self::UserUpdated(state) | Self::UserDeleted(state) => state,
        }
    }

    /// Only what did not parse is read again: a wrong shape may have been noticed before the end of what
    /// is no JSON, and a new type is told from a broken one.
    fn explain(text: &str, error: &serde_json::Error) -> UnreadableEvent {
        #[derive(Deserialize)]
        struct Tagged {
            r#type: String,
        }
        const KNOWN: [&str; 3] = ["user_created", "user_updated", "user_deleted"];

        if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
            return UnreadableEvent::NotJson(error.to_string());
        }
        match serde_json::from_str::<Object<Tagged>>(text) {
            Ok(Object(tagged)) if !KNOWN.contains(&tagged.r#type.as_str()) => {
                UnreadableEvent::UnknownType(tagged.r#type)
            }
            _ => UnreadableEvent::WrongShape(error.to_string()),
        }
    }
}

fn object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UserState, D::Error> {
    Object::deserialize(deserializer).map(|Object(state)| state)
}

/// An id or a version.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let value = i64::deserialize(deserializer)?;
    if !(1..=UserState::MAX_NUMBER).contains(&value) {
        let max = UserState::MAX_NUMBER;
        let fault = format!("expected a number from 1 to {max}, got {value}");
        return Err(serde::de::Error::custom(fault));
    }
    Ok(value)
}

fn revision<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    let value = i32::deserialize(deserializer)?;
    if value < 1 {
        let fault = format!("expected a revision of at least 1, got {value}");
        return Err(serde::de::Error::custom(fault));
    }
    Ok(value)
}

fn first_revision() -> i32 {
    1
}

fn is_first_revision(revision: &i32) -> bool {
    *revision == first_revision()
}

#[cfg(test)]
mod tests {
    use super::{UnreadableEvent, UserEvent, UserState};
    use chrono::DateTime;
    use proptest::prelude::*;
    use serde_json::{Map, json};

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
    fn an_unknown_field_is_ignored_unless_a_later_revision_has_added_it() {
        let with = |more: &str| {
            let bytes = CREATED.replace("\"id\":1", &format!("\"id\":1,{more}"));
            UserEvent::parse(bytes.as_bytes())
        };
        let event = with(r#""phone":"1""#).expect("an event");
        assert!(event.state().later_fields.is_empty());
        let event = with(r#""phone":"1","revision":2"#).expect("an event");
        assert_eq!(event.state().revision, 2);
        assert_eq!(event.state().later_fields["phone"], "1");
        let bytes = serde_json::to_vec(&event).expect("an event is JSON");
        assert_eq!(UserEvent::parse(&bytes), Ok(event));
    }

    #[test]
    fn a_number_of_a_later_field_arrives_as_it_was_sent() {
        let sent = r#""id":1,"revision":2,"share":0.09090909090909091"#;
        let bytes = CREATED.replace("\"id\":1", sent);
        let event = UserEvent::parse(bytes.as_bytes()).expect("an event");
        assert_eq!(event.state().later_fields["share"], 1.0 / 11.0);
    }

    #[test]
    fn a_later_field_that_not_every_store_can_keep_is_refused() {
        let deep = "[".repeat(40) + &"]".repeat(40);
        for field in [
            r#""$where":1"#.to_owned(),
            r#""a.b":1"#.to_owned(),
            r#""_id":1"#.to_owned(),
            r#""user_id":1"#.to_owned(),
            r#""deleted_at":1"#.to_owned(),
            r#""phone":{"$date":1}"#.to_owned(),
            r#""phone":18446744073709551615"#.to_owned(),
            format!(r#""phone":{deep}"#),
        ] {
            let more = format!(r#""id":1,"revision":2,{field}"#);
            let bytes = CREATED.replace("\"id\":1", &more);
            let fault = UserEvent::parse(bytes.as_bytes());
            let is_refused = matches!(fault, Err(UnreadableEvent::WrongShape(_)));
            assert!(is_refused, "{field}");
        }
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
        for (field, value) in [
            ("id", json!(0)),
            ("id", json!(UserState::MAX_NUMBER + 1)),
            ("version", json!(-1)),
            ("version", json!(i64::MAX)),
            ("version", json!(1.0)),
            ("version", json!(1e300)),
            ("version", json!("1")),
            ("revision", json!(0)),
            ("name", json!(7)),
        ] {
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
            id in 1..=UserState::MAX_NUMBER, version in 1..=UserState::MAX_NUMBER, name in ".*", email in ".*",
            millis in 0..4_000_000_000_000_i64,
        ) {
            let updated_at = DateTime::from_timestamp_millis(millis).expect("in range");
            let event = UserEvent::UserUpdated(UserState {
                id, name, email, updated_at, version, revision: 1, later_fields: Map::new(),
            });
            let bytes = serde_json::to_vec(&event).expect("an event is JSON");
            prop_assert_eq!(UserEvent::parse(&bytes), Ok(event));
        }
    }
}
