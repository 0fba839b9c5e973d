//! What the headers of a message say of its event.

use async_nats::HeaderMap;
use service_runtime::nats::headers;
use uuid::Uuid;

/// Nothing can be above the greatest of all numbers, and no aggregate has changed so often.
pub(crate) const MAX_VERSION: i64 = 1 << 62;
/// As the schema bounds them.
const MAX_ID_LENGTH: usize = 4 * 255;
const MAX_TYPE_LENGTH: usize = 128;

/// What a message says of its event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) event_id: Uuid,
    /// In the ledger; releases before this did not say it, nor the type and the version.
    pub(crate) id: Option<i64>,
    pub(crate) aggregate_type: Option<String>,
    pub(crate) aggregate_id: String,
    pub(crate) version: Option<i64>,
}

impl Said {
    /// They named neither the id nor the version.
    pub(crate) fn is_of_an_earlier_release(&self) -> bool {
        self.id.is_none() && self.version.is_none()
    }
}

/// Everything may stand there: anybody can publish on the subject.
pub(crate) fn read(map: &HeaderMap) -> Result<Said, &'static str> {
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

    use super::{Said, read};

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
        assert_eq!(read(&map), Ok(expected));
    }

    #[test]
    fn what_anybody_may_have_written_is_no_event() {
        let good = [("ce-id", ID), ("ce-subject", "3")];
        assert!(read(&headers(&good)).is_ok());
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
            assert!(read(&map).is_err(), "{junk:?}");
        }
        assert!(read(&HeaderMap::new()).is_err());
        assert!(read(&headers(&[("ce-subject", "3")])).is_err());
    }
}
