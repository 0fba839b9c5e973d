//! How a dead letter is stored, so that some form of it always fits.

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use chrono::{SecondsFormat, Utc};
use service_runtime::nats::{ConsumerName, headers::MESSAGE_ID};

use super::NewDeadLetter;
use crate::{
    dead_letters::headers::{self, has_prefix},
    raw_message,
};

const MAX_REASON_CHARS: usize = 500;

/// What to store of the original, from the most convenient to the smallest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Its headers as headers, its payload as the body.
    Whole,
    /// Its headers at the beginning of the body: `JetStream` takes 64 KB of headers, and those of
    /// the letter come on top.
    HeadersInBody,
    /// Nothing but its place on the stream: it leaves no room for anything beside it.
    Reference,
}

impl Form {
    pub(super) const ALL: [Self; 3] = [Self::Whole, Self::HeadersInBody, Self::Reference];

    /// The headers and the body of the message to store.
    pub(super) fn encode(
        self,
        letter: &NewDeadLetter<'_>,
        consumer: &ConsumerName,
    ) -> (HeaderMap, Bytes) {
        let original = &letter.headers;
        let mut headers = HeaderMap::new();
        let body = match self {
            Self::Whole => {
                headers = kept_headers(original);
                letter.payload.clone()
            }
            Self::HeadersInBody => {
                headers.insert(headers::HEADER_BYTES, original.len().to_string());
                [&original[..], &letter.payload[..]].concat().into()
            }
            Self::Reference => {
                headers.insert(headers::REFERENCE, "true");
                Bytes::new()
            }
        };
        describe(letter, consumer, &mut headers);
        (headers, body)
    }
}

fn kept_headers(original: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if original.is_empty() {
        return headers;
    }
    let Some(readable) = raw_message::headers::parse(original) else {
        headers.insert(headers::RAW, BASE64_STANDARD.encode(original));
        return headers;
    };
    for (name, values) in readable.iter() {
        for value in values {
            headers.append(kept_name(name), value.clone());
        }
    }
    headers
}

fn kept_name(name: &HeaderName) -> HeaderName {
    let text: &str = name.as_ref();
    if has_prefix(text, headers::SERVER) || has_prefix(text, headers::OWN) {
        let renamed = format!("{}{text}", headers::ORIGINAL).parse();
        return renamed.unwrap_or_else(|_| unreachable!("a valid name stays so with a prefix"));
    }
    name.clone()
}

fn describe(letter: &NewDeadLetter<'_>, consumer: &ConsumerName, headers: &mut HeaderMap) {
    let NewDeadLetter {
        stream,
        sequence,
        published,
        ..
    } = letter;
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    // With the time, because a stream that is created anew counts from 1 again; with the consumer,
    // because others may reject the same message.
    let id = format!("{stream}-{sequence}-{published}-{consumer}");
    headers.insert(MESSAGE_ID, printable(&id));
    headers.insert(headers::CONSUMER, consumer.as_str());
    headers.insert(headers::REASON, printable(&letter.rejection.reason));
    headers.insert(headers::CATEGORY, printable(&letter.rejection.category));
    headers.insert(headers::TIME, now);
    headers.insert(headers::STREAM, *stream);
    headers.insert(headers::STREAM_SEQUENCE, sequence.to_string());
    let stored = published.unix_timestamp_nanos();
    headers.insert(headers::STREAM_TIME, stored.to_string());
    headers.insert(headers::PAYLOAD_BYTES, letter.payload.len().to_string());
}

/// Header values hold no line breaks.
fn printable(text: &str) -> HeaderValue {
    let visible = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let bounded: String = visible.take(MAX_REASON_CHARS).collect();
    bounded.into()
}
