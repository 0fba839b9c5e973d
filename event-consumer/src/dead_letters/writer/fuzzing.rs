//! Fuzzing of dead letters: from any message to its letter and back.

use async_nats::{HeaderMap, datetime::DateTime};
use bytes::Bytes;

use super::{NewDeadLetter, form::Form};
use crate::{
    Rejection,
    dead_letters::{DeadLetter, Payload, headers},
    raw_message::{self, RawMessage},
};

/// Any client can read the letter of any message, in each form, and finds in it what the message was. The
/// bytes are its headers, up to the first blank line, and its payload.
///
/// # Panics
/// If it is not so.
pub fn dead_letter(bytes: &[u8]) {
    let (headers, payload) = split(bytes);
    let reason = String::from_utf8_lossy(payload);
    let letter = NewDeadLetter {
        headers: Bytes::copy_from_slice(headers),
        payload: Bytes::copy_from_slice(payload),
        stream: "EVENTS",
        sequence: 7,
        published: DateTime::UNIX_EPOCH,
        rejection: &Rejection::new("fuzzed", reason),
    };
    for form in Form::ALL {
        check(&letter, form);
    }
}

fn check(letter: &NewDeadLetter<'_>, form: Form) {
    let consumer = "fuzzing".parse().expect("a name");
    let (own, body) = form.encode(letter, &consumer);
    let block = raw_message::headers::encode(&own);
    assert!(raw_message::headers::parse(&block).is_some(), "unreadable");
    let read = DeadLetter::from(RawMessage {
        sequence: 1,
        subject: "dead-letters.events.fuzzing".to_owned(),
        time: DateTime::UNIX_EPOCH,
        headers: block.into(),
        payload: body,
    });
    let original = trimmed(&parse(&letter.headers));
    assert_eq!(read.category, "fuzzed");
    assert_eq!(read.consumer, "fuzzing");
    assert_eq!(read.stream, letter.stream);
    assert_eq!(read.stream_sequence, Some(letter.sequence));
    assert_eq!(read.payload_bytes, letter.payload.len());
    match read.payload {
        Payload::Here(payload) => {
            assert_eq!(payload, letter.payload);
            assert_eq!(trimmed(&read.headers), headers::harmless(&original));
        }
        Payload::Referenced => assert_eq!(form, Form::Reference),
    }
}

fn parse(block: &[u8]) -> HeaderMap {
    raw_message::headers::parse(block).unwrap_or_default()
}

/// White space around a value is not kept.
fn trimmed(headers: &HeaderMap) -> HeaderMap {
    parse(&raw_message::headers::encode(headers))
}

fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    const BLANK_LINE: &[u8] = b"\r\n\r\n";
    let mut lines = bytes.windows(BLANK_LINE.len());
    let headers = lines.position(|it| it == BLANK_LINE);
    bytes.split_at(headers.map_or(bytes.len(), |at| at + BLANK_LINE.len()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn dead_letters_survive_fuzzing() {
        testkit::fuzzing::replay("dead_letter", super::dead_letter);
    }
}
