//! The headers of a dead letter: its own, and those of the message that it was.

use async_nats::HeaderMap;

/// What every header of a dead letter's own begins with.
pub(crate) const OWN: &str = "Dead-Letter-";
/// What every header that instructs the server begins with.
pub(crate) const SERVER: &str = "Nats-";

/// Why it can never take effect.
pub(crate) const REASON: &str = "Dead-Letter-Reason";
/// The same in one word, see [`Rejection::category`](crate::Rejection::category).
pub(crate) const CATEGORY: &str = "Dead-Letter-Category";
/// The consumer that rejected it; letters of early releases do not say.
pub(crate) const CONSUMER: &str = "Dead-Letter-Consumer";
/// When it was set aside, RFC 3339.
pub(crate) const TIME: &str = "Dead-Letter-Time";
/// The stream that it came from, and its sequence there.
pub(crate) const STREAM: &str = "Dead-Letter-Stream";
pub(crate) const STREAM_SEQUENCE: &str = "Dead-Letter-Stream-Sequence";
/// When the original was stored there, in nanoseconds since 1970: a stream that is created anew
/// counts from 1 again.
pub(crate) const STREAM_TIME: &str = "Dead-Letter-Stream-Time-Ns";
/// How many bytes the original's payload has.
pub(crate) const PAYLOAD_BYTES: &str = "Dead-Letter-Payload-Bytes";
/// The body begins with so many bytes of the original's headers, which were too large to be kept
/// as headers beside these.
pub(crate) const HEADER_BYTES: &str = "Dead-Letter-Header-Bytes";
/// The body is empty: the original, too large to be stored again, is only where it came from.
pub(crate) const REFERENCE: &str = "Dead-Letter-Reference";
/// Goes before the original's headers that would instruct the server: a rollup would erase other
/// dead letters, an expected stream would refuse this one.
pub(crate) const ORIGINAL: &str = "Dead-Letter-Original-";
/// The original's headers in base64, if they can't be kept one by one.
pub(crate) const RAW: &str = "Dead-Letter-Original-Headers";

/// The original's headers that may be published again: those that say something about the event
/// (`ce-type`, `traceparent`), not those that told the server how to store it.
pub(super) fn harmless(letter: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, values) in letter.iter() {
        let text: &str = name.as_ref();
        if has_prefix(text, OWN) || has_prefix(text, SERVER) {
            continue;
        }
        for value in values {
            headers.append(name.clone(), value.clone());
        }
    }
    headers
}

pub(crate) fn has_prefix(name: &str, prefix: &str) -> bool {
    let start = name.get(..prefix.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}
