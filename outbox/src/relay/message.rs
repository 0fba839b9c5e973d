//! An event as it goes over the wire.

use async_nats::{HeaderMap, HeaderName};
use chrono::SecondsFormat;
use service_runtime::nats::{Topic, headers};

use crate::ledger::OutboxEvent;

/// `ce-source` of every event.
const SOURCE: &str = "/user-service";

/// `{"type": …, "payload": …}`, with the payload's bytes as the writer left them.
pub(super) fn body(event: &OutboxEvent) -> Vec<u8> {
    let mut body = Vec::with_capacity(event.payload.len() + 64);
    body.extend_from_slice(b"{\"type\":\"");
    body.extend_from_slice(event.r#type.as_bytes());
    body.extend_from_slice(b"\",\"payload\":");
    body.extend_from_slice(event.payload.as_bytes());
    body.push(b'}');
    body
}

pub(super) fn headers(event: &OutboxEvent, topic: &Topic) -> HeaderMap {
    let id = event.event_id.to_string();
    let time = event
        .created_at
        .to_rfc3339_opts(SecondsFormat::Millis, true);
    let mut map = HeaderMap::new();
    let mut insert = |name, value: &str| map.insert(HeaderName::from_static(name), value);
    insert(headers::MESSAGE_ID, &id);
    insert(headers::EXPECTED_STREAM, &topic.stream);
    insert(headers::CE_SPEC_VERSION, headers::CE_SPEC_VERSION_1);
    insert(headers::CE_ID, &id);
    insert(headers::CE_SOURCE, SOURCE);
    insert(headers::CE_TYPE, &event.r#type);
    insert(headers::CE_TIME, &time);
    insert(headers::CE_SUBJECT, &event.user_id.to_string());
    if let Some(traceparent) = &event.traceparent {
        insert(headers::TRACEPARENT, traceparent);
    }
    map
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use service_runtime::nats::Topic;
    use uuid::Uuid;

    use super::{body, headers};
    use crate::ledger::OutboxEvent;

    fn event() -> OutboxEvent {
        OutboxEvent {
            id: 7,
            event_id: Uuid::from_u128(7),
            r#type: "user_updated".to_owned(),
            user_id: 3,
            payload: r#"{"id":3,"name":"Ada","email":"a@b.c","updated_at":"2026-01-02T03:04:05.678Z","version":2}"#.to_owned(),
            traceparent: None,
            created_at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_body_reads_as_the_contract_says() {
        let expected = r#"{"type":"user_updated","payload":{"id":3,"name":"Ada","email":"a@b.c","updated_at":"2026-01-02T03:04:05.678Z","version":2}}"#;
        assert_eq!(String::from_utf8(body(&event())).as_deref(), Ok(expected));
    }

    #[test]
    fn the_headers_are_those_of_a_cloud_event() {
        let topic = Topic {
            stream: "USER_EVENTS".to_owned(),
            subject: "user.events".to_owned(),
        };
        let map = headers(&event(), &topic);
        let get = |name: &str| map.get(name).map(ToString::to_string);
        let id = "00000000-0000-0000-0000-000000000007";
        assert_eq!(get("Nats-Msg-Id").as_deref(), Some(id));
        assert_eq!(get("ce-id").as_deref(), Some(id));
        assert_eq!(get("ce-specversion").as_deref(), Some("1.0"));
        assert_eq!(get("ce-type").as_deref(), Some("user_updated"));
        assert_eq!(get("ce-subject").as_deref(), Some("3"));
        assert_eq!(get("ce-time").as_deref(), Some("1970-01-01T00:00:00.000Z"));
        assert_eq!(get("traceparent"), None);
    }
}
