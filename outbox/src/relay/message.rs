//! An event as it goes over the wire.

use std::collections::BTreeMap;

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use chrono::SecondsFormat;
use service_runtime::nats::{Topic, headers};

use crate::ledger::Entry;

/// `{"type": …, "payload": …}`, with the payload's bytes as the producer left them. The schema allows
/// nothing in a type that JSON would have to escape.
pub(super) fn body(entry: &Entry) -> Vec<u8> {
    let mut body = Vec::with_capacity(entry.payload.len() + entry.event_type.len() + 32);
    body.extend_from_slice(b"{\"type\":\"");
    body.extend_from_slice(entry.event_type.as_bytes());
    body.extend_from_slice(b"\",\"payload\":");
    body.extend_from_slice(entry.payload.as_bytes());
    body.push(b'}');
    body
}

/// `Err` says why the event can't have such headers.
pub(super) fn headers(entry: &Entry, topic: &Topic, source: &str) -> Result<HeaderMap, String> {
    let id = entry.event_id.to_string();
    let time = entry
        .created_at
        .to_rfc3339_opts(SecondsFormat::Millis, true);
    let mut map = HeaderMap::new();
    let mut insert = |name, value: &str| map.insert(HeaderName::from_static(name), value);
    insert(headers::MESSAGE_ID, &id);
    insert(headers::EXPECTED_STREAM, &topic.stream);
    insert(headers::CE_SPEC_VERSION, headers::CE_SPEC_VERSION_1);
    insert(headers::CE_ID, &id);
    insert(headers::CE_SOURCE, source);
    insert(headers::CE_TYPE, &entry.event_type);
    insert(headers::CE_TIME, &time);
    insert(headers::CE_SUBJECT, &entry.aggregate_id);
    insert(headers::CE_OUTBOX_ID, &entry.id.to_string());
    insert(headers::CE_AGGREGATE_TYPE, &entry.aggregate_type);
    if let Some(version) = entry.version {
        insert(headers::CE_AGGREGATE_VERSION, &version.to_string());
    }
    if let Some(more) = &entry.headers {
        add(&mut map, more)?;
    }
    Ok(map)
}

/// The schema lets only such headers pass that can be sent; it may have been changed since.
fn add(map: &mut HeaderMap, more: &str) -> Result<(), String> {
    let more: BTreeMap<String, String> = serde_json::from_str(more)
        .map_err(|error| format!("the headers are not an object of strings: {error}"))?;
    for (name, value) in more {
        let parsed = name
            .parse::<HeaderName>()
            .ok()
            .zip(value.parse::<HeaderValue>().ok());
        let (name, value) = parsed.ok_or_else(|| format!("the header {name} can't be sent"))?;
        map.insert(name, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use service_runtime::nats::Topic;
    use uuid::Uuid;

    use super::{body, headers};
    use crate::ledger::Entry;

    fn entry(more: Option<&str>) -> Entry {
        Entry {
            id: 7,
            event_id: Uuid::from_u128(7),
            aggregate_type: "user".to_owned(),
            created_at: DateTime::UNIX_EPOCH,
            is_wanted: true,
            aggregate_id: "3".to_owned(),
            event_type: "user_updated".to_owned(),
            version: Some(4),
            payload: r#"{"id":3, "name":"Ada"}"#.to_owned(),
            headers: more.map(str::to_owned),
        }
    }

    fn topic() -> Topic {
        Topic {
            stream: "USERS".to_owned(),
            subject: "users".to_owned(),
        }
    }

    #[test]
    fn the_body_has_the_bytes_of_the_payload() {
        let expected = r#"{"type":"user_updated","payload":{"id":3, "name":"Ada"}}"#;
        assert_eq!(body(&entry(None)), expected.as_bytes());
    }

    #[test]
    fn the_headers_are_those_of_a_cloud_event_and_the_producers_own() {
        let more = r#"{"traceparent":"00-1-2-01","tenant":"a"}"#;
        let map = headers(&entry(Some(more)), &topic(), "/user-service").expect("headers");
        let get = |name: &str| map.get(name).map(ToString::to_string);
        let id = "00000000-0000-0000-0000-000000000007";
        assert_eq!(get("Nats-Msg-Id").as_deref(), Some(id));
        assert_eq!(get("Nats-Expected-Stream").as_deref(), Some("USERS"));
        assert_eq!(get("ce-id").as_deref(), Some(id));
        assert_eq!(get("ce-specversion").as_deref(), Some("1.0"));
        assert_eq!(get("ce-source").as_deref(), Some("/user-service"));
        assert_eq!(get("ce-type").as_deref(), Some("user_updated"));
        assert_eq!(get("ce-subject").as_deref(), Some("3"));
        assert_eq!(get("ce-outboxid").as_deref(), Some("7"));
        assert_eq!(get("ce-aggregatetype").as_deref(), Some("user"));
        assert_eq!(get("ce-aggregateversion").as_deref(), Some("4"));
        assert_eq!(get("ce-time").as_deref(), Some("1970-01-01T00:00:00.000Z"));
        assert_eq!(get("traceparent").as_deref(), Some("00-1-2-01"));
        assert_eq!(get("tenant").as_deref(), Some("a"));
    }

    #[test]
    fn an_event_without_a_version_has_no_header_for_it() {
        let mut entry = entry(None);
        entry.version = None;
        let map = headers(&entry, &topic(), "/x").expect("headers");
        assert!(map.get("ce-aggregateversion").is_none());
    }

    #[test]
    fn headers_that_can_not_be_sent_are_refused_with_the_reason() {
        for (more, fault) in [
            ("[1]", "not an object of strings"),
            (r#"{"a b":"c"}"#, "a b"),
            (r#"{"a":"b\r\nc"}"#, "the header a"),
        ] {
            let error = headers(&entry(Some(more)), &topic(), "/x").expect_err("a fault");
            assert!(error.contains(fault), "{error}");
        }
    }
}
