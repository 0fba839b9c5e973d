//! What is fuzzed here: see `fuzz/`.

use serde::de::IgnoredAny;
use serde_json::Value;

use crate::{UnreadableEvent, UserEvent, UserState};

/// An event that is accepted is the same when it is written and read again, and what is refused is told
/// apart as documented.
///
/// # Panics
/// If it is not so.
pub fn event(bytes: &[u8]) {
    match UserEvent::parse(bytes) {
        Ok(event) => is_what_it_says(bytes, &event),
        Err(unreadable) => is_rightly_refused(bytes, &unreadable),
    }
}

fn is_what_it_says(bytes: &[u8], event: &UserEvent) {
    let state = event.state();
    let numbers = 1..=UserState::MAX_NUMBER;
    assert!(numbers.contains(&state.id) && numbers.contains(&state.version));
    assert!(state.revision >= UserState::REVISION);
    assert!(state.revision > UserState::REVISION || state.later_fields.is_empty());

    let written = serde_json::to_vec(event).expect("an event is JSON");
    assert_eq!(UserEvent::parse(&written).as_ref(), Ok(event));

    // A number that no one reads may be out of range.
    if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
        let payload = &value["payload"];
        assert_eq!(payload["id"], state.id);
        assert_eq!(payload["version"], state.version);
        assert_eq!(payload["name"], state.name);
        assert_eq!(payload["email"], state.email);
    }
}

fn is_rightly_refused(bytes: &[u8], unreadable: &UnreadableEvent) {
    let is_json = str::from_utf8(bytes).is_ok_and(|text| {
        let parsed: Result<IgnoredAny, _> = serde_json::from_str(text);
        parsed.is_ok()
    });
    match unreadable {
        UnreadableEvent::NotJson(_) => assert!(!is_json),
        UnreadableEvent::UnknownType(name) => {
            assert!(is_json);
            let known = ["user_created", "user_updated", "user_deleted"];
            assert!(!known.contains(&name.as_str()));
        }
        UnreadableEvent::WrongShape(_) => assert!(is_json),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn events_survive_fuzzing() {
        testkit::fuzzing::replay("event", super::event);
    }
}
