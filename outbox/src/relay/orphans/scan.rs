//! Reading what messages say of their events: their headers alone.

use std::time::Duration;

use async_nats::{
    HeaderMap,
    jetstream::{
        Context, Message,
        consumer::{AckPolicy, Consumer, DeliverPolicy, pull},
    },
};
use futures::{StreamExt, TryFutureExt};
use service_runtime::nats::{Topic, headers};
use uuid::Uuid;

use crate::relay::{
    STREAM_TIMEOUT,
    failure::{Failure, within},
};

/// Messages read at once.
const BATCH: usize = 1000;
/// The server removes a consumer that was forgotten after so long.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(1);
/// Nothing can be above the greatest of all numbers, and no aggregate has changed so often.
const MAX_VERSION: i64 = 1 << 62;
/// As the schema bounds them.
const MAX_ID_LENGTH: usize = 4 * 255;
const MAX_TYPE_LENGTH: usize = 128;

/// The messages on the relay's subject in a part of the stream, in order.
pub(super) struct Scan {
    consumer: Consumer<pull::Config>,
    to: u64,
    is_done: bool,
}

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

impl Scan {
    /// Of the messages above `from`, up to `to`.
    pub(super) async fn begin(
        jetstream: &Context,
        topic: &Topic,
        from: u64,
        to: u64,
    ) -> Result<Self, Failure> {
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence {
                start_sequence: from + 1,
            },
            ack_policy: AckPolicy::None,
            filter_subject: topic.subject.clone(),
            headers_only: true,
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: FORGOTTEN_AFTER,
            ..pull::Config::default()
        };
        let creating = jetstream.create_consumer_on_stream(config, &topic.stream);
        let creating = creating.map_err(|error| Failure::JetStream(error.to_string()));
        let consumer = within(STREAM_TIMEOUT, creating).await?;
        let is_done = consumer.cached_info().num_pending == 0;
        Ok(Self {
            consumer,
            to,
            is_done,
        })
    }

    /// The next ones; none at the end.
    pub(super) async fn next(&mut self) -> Result<Vec<Found>, Failure> {
        if self.is_done {
            return Ok(Vec::new());
        }
        let found = within(STREAM_TIMEOUT, self.fetch()).await?;
        if found.is_empty() && !self.is_done {
            let asking = self.consumer.info();
            let asking = asking.map_err(|error| Failure::JetStream(error.to_string()));
            if within(STREAM_TIMEOUT, asking).await?.num_pending > 0 {
                return Err(Failure::JetStream("the messages do not come".to_owned()));
            }
            self.is_done = true;
        }
        Ok(found)
    }

    /// The server would remove the consumer by itself, but late.
    pub(super) async fn end(self, jetstream: &Context) -> Result<(), Failure> {
        let info = self.consumer.cached_info();
        let deleting = jetstream.delete_consumer_from_stream(&info.name, &info.stream_name);
        let deleting = deleting.map_err(|error| Failure::JetStream(error.to_string()));
        within(STREAM_TIMEOUT, deleting).await.map(drop)
    }

    async fn fetch(&mut self) -> Result<Vec<Found>, Failure> {
        let failed = |error: String| Failure::JetStream(error);
        let fetching = self.consumer.fetch().max_messages(BATCH).messages();
        let mut messages = fetching.await.map_err(|error| failed(error.to_string()))?;
        let mut found = Vec::new();
        while let Some(message) = messages.next().await {
            let message = message.map_err(|error| failed(error.to_string()))?;
            let info = message.info().map_err(|error| failed(error.to_string()))?;
            self.is_done = info.pending == 0 || info.stream_sequence >= self.to;
            if info.stream_sequence > self.to {
                break;
            }
            found.push(Found {
                sequence: info.stream_sequence,
                event: read(&message),
            });
            if self.is_done {
                break;
            }
        }
        Ok(found)
    }
}

fn read(message: &Message) -> Result<Said, &'static str> {
    let empty = HeaderMap::new();
    said(message.headers.as_ref().unwrap_or(&empty))
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

    use super::{Said, said};

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
