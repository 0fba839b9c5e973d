//! Reading what messages say of their events.

use async_nats::{HeaderMap, jetstream::Context};
use serde::Deserialize;
use service_runtime::nats::{Topic, headers};
use uuid::Uuid;

use crate::relay::{
    failure::Failure,
    stored_message::{self, StoredMessage},
};

/// Nothing can be above the greatest of all numbers, and no aggregate has changed so often.
const MAX_VERSION: i64 = 1 << 62;
/// As the schema bounds them.
const MAX_ID_LENGTH: usize = 4 * 255;
const MAX_TYPE_LENGTH: usize = 128;

/// A message on the stream.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) sequence: u64,
    /// Which event it is, or why that can't be told.
    pub(super) event: Result<Said, &'static str>,
}

/// What a message says of its event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) event_id: Uuid,
    /// In the ledger; releases before this did not say it, nor the type and the version.
    pub(super) id: Option<i64>,
    pub(super) aggregate_type: Option<String>,
    pub(super) aggregate_id: String,
    pub(super) version: Option<i64>,
}

/// The messages on the relay's subject above `from`, up to `to`, in order.
pub(super) async fn read(
    jetstream: &Context,
    topic: &Topic,
    from: u64,
    to: u64,
) -> Result<Vec<Found>, Failure> {
    let mut found = Vec::new();
    let sequences = from.cast_signed() + 1..=to.cast_signed();
    stored_message::each(jetstream, &topic.stream, sequences, |sequence, message| {
        if let Some(message) = message.filter(|it| it.subject() == topic.subject) {
            found.push(Found {
                sequence: sequence.cast_unsigned(),
                event: read_one(&message),
            });
        }
    })
    .await?;
    Ok(found)
}

fn read_one(message: &StoredMessage) -> Result<Said, &'static str> {
    let headers = message.headers().ok_or("headers that are no text")?;
    let mut said = said(&headers)?;
    if said.is_of_an_earlier_release() {
        said.version = message.payload().and_then(|body| version(&body));
    }
    Ok(said)
}

impl Said {
    /// They named neither the id nor the version.
    pub(super) fn is_of_an_earlier_release(&self) -> bool {
        self.id.is_none() && self.version.is_none()
    }
}

/// Where our own events have it.
fn version(body: &[u8]) -> Option<i64> {
    #[derive(Deserialize)]
    struct Body {
        payload: Payload,
    }
    #[derive(Deserialize)]
    struct Payload {
        version: i64,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    Some(body.payload.version).filter(|it| (0..=MAX_VERSION).contains(it))
}

/// Everything may stand there: anybody can publish on the subject.
fn said(map: &HeaderMap) -> Result<Said, &'static str> {
    let text = |name| map.get(name).map(|value| value.as_str());
    let number = |name| text(name).map(str::parse::<i64>).transpose();
    let event_id = text(headers::CE_ID).and_then(|it| it.parse().ok());
    let event_id = event_id.ok_or("no event id that is a UUID")?;
    let id = number(headers::CE_OUTBOX_ID).map_err(|_| "an outbox id that is no number")?;
    if id.is_some_and(|it| it < 1) {
        return Err("an outbox id that is not positive");
    }
    let version =
        number(headers::CE_AGGREGATE_VERSION).map_err(|_| "a version that is no number")?;
    if version.is_some_and(|it| it > MAX_VERSION) {
        return Err("a version that nothing can be above");
    }
    let aggregate_id = text(headers::CE_SUBJECT).unwrap_or_default();
    if aggregate_id.is_empty() || is_not_text(aggregate_id, MAX_ID_LENGTH) {
        return Err("no aggregate id");
    }
    let aggregate_type = text(headers::CE_AGGREGATE_TYPE);
    if aggregate_type.is_some_and(|it| it.is_empty() || is_not_text(it, MAX_TYPE_LENGTH)) {
        return Err("an aggregate type that is none");
    }
    Ok(Said {
        event_id,
        id,
        aggregate_type: aggregate_type.map(str::to_owned),
        aggregate_id: aggregate_id.to_owned(),
        version,
    })
}

/// Postgres takes no zero bytes.
fn is_not_text(text: &str, longest: usize) -> bool {
    text.len() > longest || text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use async_nats::HeaderMap;

    use super::{Said, said, version};

    const ID: &str = "00000000-0000-0000-0000-000000000007";

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in of {
            map.insert(*name, *value);
        }
        map
    }

    #[test]
    fn a_message_says_which_event_it_is() {
        let map = headers(&[
            ("ce-id", ID),
            ("ce-subject", "3"),
            ("ce-outboxid", "9"),
            ("ce-aggregatetype", "user"),
            ("ce-aggregateversion", "4"),
        ]);
        let expected = Said {
            event_id: ID.parse().expect("an id"),
            id: Some(9),
            aggregate_type: Some("user".to_owned()),
            aggregate_id: "3".to_owned(),
            version: Some(4),
        };
        assert_eq!(said(&map), Ok(expected));
    }

    #[test]
    fn the_body_may_say_the_version() {
        let of = |body: &str| version(body.as_bytes());
        assert_eq!(
            of(r#"{"type":"x","payload":{"id":3,"version":4}}"#),
            Some(4)
        );
        assert_eq!(of(r#"{"type":"x","payload":{"id":3}}"#), None);
        assert_eq!(of(r#"{"payload":{"version":9223372036854775807}}"#), None);
        assert_eq!(of("junk"), None);
    }

    #[test]
    fn what_anybody_may_have_written_is_no_event() {
        let good = [("ce-id", ID), ("ce-subject", "3")];
        assert!(said(&headers(&good)).is_ok());
        for junk in [
            ("ce-id", "7"),
            ("ce-subject", ""),
            ("ce-subject", "a\u{1}b"),
            ("ce-outboxid", "x"),
            ("ce-outboxid", "0"),
            ("ce-outboxid", "99999999999999999999"),
            ("ce-aggregatetype", ""),
            ("ce-aggregateversion", "9223372036854775807"),
            ("ce-aggregateversion", "one"),
        ] {
            let mut map = headers(&good);
            map.insert(junk.0, junk.1);
            assert!(said(&map).is_err(), "{junk:?}");
        }
        assert!(said(&HeaderMap::new()).is_err());
        assert!(said(&headers(&[("ce-subject", "3")])).is_err());
    }
}
