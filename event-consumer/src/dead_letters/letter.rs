//! A dead letter, read in whatever form it was stored.

use async_nats::HeaderMap;
use bytes::Bytes;
use service_runtime::nats::headers::MESSAGE_ID;

use super::headers;
use crate::raw_message::{self, RawMessage};

/// A message that can never take effect, with what is known about it.
#[derive(Debug)]
pub struct DeadLetter {
    /// Its place in the dead-letter stream, which names it.
    pub sequence: u64,
    pub reason: String,
    /// The same in one word; empty in letters of early releases.
    pub category: String,
    /// When it was set aside, RFC 3339.
    pub time: String,
    /// The consumer that rejected it; empty in letters of early releases.
    pub consumer: String,
    /// The original's message id, if it had one that could be read.
    pub message_id: Option<String>,
    /// The stream that it came from, and its place there.
    pub stream: String,
    pub stream_sequence: Option<u64>,
    /// The original's, as far as they could be read and do not instruct the server.
    pub headers: HeaderMap,
    pub payload: Payload,
    pub payload_bytes: usize,
    /// When the original was stored, as it is written in the letter.
    stored: String,
}

/// The original's body, byte for byte.
#[derive(Debug)]
pub enum Payload {
    Here(Bytes),
    /// Too large to be stored again: only on the stream that it came from, for as long as that
    /// keeps it.
    Referenced,
}

impl DeadLetter {
    /// Completes a reference, if `original` is what it refers to.
    pub(super) fn restore(&mut self, original: Option<RawMessage>) {
        let stored = |it: &RawMessage| it.time.unix_timestamp_nanos().to_string() == self.stored;
        if let Some(original) = original.filter(stored) {
            let headers = raw_message::headers::parse(&original.headers).unwrap_or_default();
            self.message_id = text(&headers, MESSAGE_ID);
            self.headers = headers::harmless(&headers);
            self.payload = Payload::Here(original.payload);
        }
    }
}

impl From<RawMessage> for DeadLetter {
    fn from(message: RawMessage) -> Self {
        let own = raw_message::headers::parse(&message.headers).unwrap_or_default();
        let header = |name: &str| text(&own, name).unwrap_or_default();
        let body = message.payload;
        let header_bytes = header(headers::HEADER_BYTES).parse().unwrap_or(0);
        let kept_id = format!("{}{MESSAGE_ID}", headers::ORIGINAL);
        let mut message_id = text(&own, &kept_id);
        let (original_headers, payload) = if own.get(headers::REFERENCE).is_some() {
            (HeaderMap::new(), Payload::Referenced)
        } else if header_bytes > 0 && header_bytes <= body.len() {
            let block = &body[..header_bytes];
            let original = raw_message::headers::parse(block).unwrap_or_default();
            message_id = text(&original, MESSAGE_ID);
            let payload = body.slice(header_bytes..);
            (headers::harmless(&original), Payload::Here(payload))
        } else {
            (headers::harmless(&own), Payload::Here(body.clone()))
        };
        let here = match &payload {
            Payload::Here(payload) => payload.len(),
            Payload::Referenced => 0,
        };
        Self {
            sequence: message.sequence,
            reason: header(headers::REASON),
            category: header(headers::CATEGORY),
            time: header(headers::TIME),
            consumer: header(headers::CONSUMER),
            message_id,
            stream: header(headers::STREAM),
            stream_sequence: header(headers::STREAM_SEQUENCE).parse().ok(),
            headers: original_headers,
            payload_bytes: header(headers::PAYLOAD_BYTES).parse().unwrap_or(here),
            payload,
            stored: header(headers::STREAM_TIME),
        }
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(ToString::to_string)
}
