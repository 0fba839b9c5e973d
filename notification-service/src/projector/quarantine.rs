//! Messages with headers that the client can't read.
//!
//! Such headers make the client give up its connection, or itself, whenever the message is
//! delivered, and lose what was delivered along with it. Nobody who publishes with a client can
//! make them; who can write to the socket can.

use std::str::FromStr;

use anyhow::{Context as _, bail};
use async_nats::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    jetstream::{Context, ErrorCode, consumer::Info, response::Response, stream::RawMessage},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use serde_json::json;

use super::dead_letter::{DeadLetter, DeadLetters, Reason};
use crate::dead_letters::headers::RAW;

/// How many messages are asked for at once.
const CONCURRENCY: usize = 32;

#[derive(Deserialize)]
struct Found {
    message: RawMessage,
}

/// Sets aside what is unreadable among the messages that were delivered and not settled: one of
/// them may be what ended the last session.
pub(super) async fn sweep(
    jetstream: &Context,
    consumer: &Info,
    dead_letters: &DeadLetters,
) -> anyhow::Result<()> {
    if consumer.num_ack_pending == 0 {
        return Ok(());
    }
    let suspects = consumer.ack_floor.stream_sequence + 1..=consumer.delivered.stream_sequence;
    stream::iter(suspects)
        .map(|sequence| find(jetstream, &consumer.stream_name, sequence))
        .buffer_unordered(CONCURRENCY)
        .try_filter_map(async |message| Ok(message))
        .try_for_each(async |message| set_aside(jetstream, consumer, dead_letters, message).await)
        .await
}

/// By the API that gives headers in base64.
async fn find(
    jetstream: &Context,
    stream: &str,
    sequence: u64,
) -> anyhow::Result<Option<RawMessage>> {
    let subject = format!("STREAM.MSG.GET.{stream}");
    match jetstream
        .request(subject, &json!({ "seq": sequence }))
        .await?
    {
        Response::Ok(Found { message }) => Ok(Some(message)),
        Response::Err { error } if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(None),
        Response::Err { error } => bail!(error),
    }
}

async fn set_aside(
    jetstream: &Context,
    consumer: &Info,
    dead_letters: &DeadLetters,
    message: RawMessage,
) -> anyhow::Result<()> {
    let Some(original) = message.headers else {
        return Ok(());
    };
    if is_readable(&BASE64_STANDARD.decode(&original)?) {
        return Ok(());
    }
    let (stream, sequence) = (consumer.stream_name.as_str(), message.sequence);
    let mut headers = HeaderMap::new();
    headers.insert(RAW, original);
    let letter = DeadLetter {
        headers,
        payload: BASE64_STANDARD.decode(&message.payload)?.into(),
        stream,
        sequence,
        published: message.time,
        reason: Reason::UnreadableHeaders,
    };
    dead_letters.store(letter).await?;
    // The subject that the message itself would name for its answer; only the sequence counts.
    let answer = format!("$JS.ACK.{stream}.{}.1.{sequence}.1.1.0", consumer.name);
    jetstream
        .client()
        .publish(answer, "+TERM".into())
        .await
        .context("ending the delivery")
}

/// Whether the client reads them; it does as is done here, but does not survive if they are not.
fn is_readable(headers: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(headers) else {
        return false;
    };
    let mut lines = text.lines().peekable();
    let status = lines.next().and_then(|line| line.strip_prefix("NATS/1.0"));
    let Some(status) = status.and_then(|status| status.trim().split(' ').next()) else {
        return false;
    };
    if !status.is_empty() && StatusCode::from_str(status).is_err() {
        return false;
    }
    while let Some(line) = lines.next() {
        if line.is_empty() {
            continue;
        }
        let Some((name, value)) = line.split_once(':') else {
            return false;
        };
        let mut value = value.to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with(char::is_whitespace)) {
            value.push_str(more);
        }
        if HeaderName::from_str(name).is_err() || HeaderValue::from_str(value.trim()).is_err() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::is_readable;

    #[test]
    fn what_clients_send_is_readable() {
        for headers in [
            "NATS/1.0\r\n\r\n",
            "NATS/1.0\r\nNats-Msg-Id: 1\r\nce-type:user_created\r\n\r\n",
            "NATS/1.0\r\nX: a\r\n and more\r\nX: b\r\n\r\n",
            "NATS/1.0 408 Request Timeout\r\n\r\n",
            "NATS/1.0\r\nX: trailing\r\r\n\r\n",
        ] {
            assert!(is_readable(headers.as_bytes()), "{headers:?}");
        }
    }

    #[test]
    fn what_breaks_the_client_is_not() {
        for headers in [
            &b"NATS/1.0\r\nX: \xff\r\n\r\n"[..],
            b"NATS/1.0\r\nX: a\rb\r\n\r\n",
            b"NATS/1.0\r\nno colon\r\n\r\n",
            b"NATS/1.0\r\na blank: x\r\n\r\n",
            b"NATS/1.0 what\r\n\r\n",
            b"HTTP/1.1\r\n\r\n",
            b"",
        ] {
            assert!(!is_readable(headers), "{}", headers.escape_ascii());
        }
    }
}
