//! The description of the events (`AsyncAPI` 3), made from their types.

use serde_json::{Value, json};

/// The events on `subject`, which `stream` keeps: what is in them and in their headers. Refers to the schema of an event
/// as `user-event.json` beside it.
#[must_use]
pub fn asyncapi(stream: &str, subject: &str) -> Value {
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "User events",
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!(
                "Every change of a user, on a NATS JetStream stream. Delivery is at least once, in \
                 the order of each user's versions. Apply an event only if its version is higher \
                 than what you have, and the order and the repeats no longer matter. The stream is \
                 `{stream}`."),
        },
        "defaultContentType": "application/json",
        "servers": {
            "nats": {
                "host": "localhost:4222",
                "protocol": "nats",
                "description": "The default of a development set-up.",
            }
        },
        "channels": {
            "userEvents": {
                "address": subject,
                "messages": {"userEvent": {"$ref": "#/components/messages/userEvent"}},
            },
            "userEventReplays": {
                "address": format!("replay.{subject}.{{consumer}}"),
                "description": "Events that one consumer rejected and an operator has published \
                                again for it alone. The same stream keeps them: a durable consumer \
                                filters on the subject of all events and on its own one of replays.",
                "parameters": {"consumer": {"description": "The name of the durable consumer."}},
                "messages": {"userEvent": {"$ref": "#/components/messages/userEvent"}},
            }
        },
        "operations": {
            "publishUserEvent": {
                "action": "send",
                "channel": {"$ref": "#/channels/userEvents"},
                "summary": "The user service tells of a change.",
            }
        },
        "components": {
            "messages": {
                "userEvent": {
                    "name": "UserEvent",
                    "contentType": "application/json",
                    "headers": message_headers(),
                    "payload": {
                        "schemaFormat": "application/schema+json;version=draft-2020-12",
                        "schema": {"$ref": "./user-event.json"},
                    },
                    "examples": [{"payload": example()}],
                }
            }
        }
    })
}

fn message_headers() -> Value {
    let texts = |names: &[(&str, &str)]| -> Value {
        let properties = names.iter().map(|(name, meaning)| {
            let property = json!({"type": "string", "description": meaning});
            ((*name).to_owned(), property)
        });
        Value::Object(properties.collect())
    };
    json!({
        "type": "object",
        "properties": texts(&[
            ("Nats-Msg-Id", "The event's id (UUIDv7): JetStream drops a repeat that comes soon."),
            ("Replay-Of", "In a replay, which has an id of its own: the id of the event."),
            ("ce-specversion", "CloudEvents, binary mode: 1.0."),
            ("ce-id", "The event's id."),
            ("ce-source", "Who tells."),
            ("ce-type", "The type of the event."),
            ("ce-time", "When the event was written, RFC 3339."),
            ("ce-subject", "The user's id."),
            ("ce-outboxid", "The event's id in the outbox, in decimal."),
            ("ce-aggregatetype", "user"),
            ("ce-aggregateversion", "The user's version, in decimal."),
            ("traceparent", "W3C trace context of the request that made the change, if any."),
            ("tracestate", "W3C trace state of the same, if any."),
        ]),
        "required": ["Nats-Msg-Id"],
    })
}

fn example() -> Value {
    json!({
        "type": "user_created",
        "payload": {
            "id": 1,
            "name": "Ada Lovelace",
            "email": "ada@example.com",
            "updated_at": "2026-01-02T03:04:05.678Z",
            "version": 1,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::example;
    use crate::UserEvent;

    #[test]
    fn the_example_is_an_event() {
        let bytes = example().to_string();
        assert!(UserEvent::parse(bytes.as_bytes()).is_ok());
    }
}
