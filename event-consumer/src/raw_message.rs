//! A stored message, read by its sequence through the API that returns headers in base64.
//!
//! A delivery with headers that the client can't parse costs it its connection; this does not.

pub mod headers;

use anyhow::{Context as _, bail};
use async_nats::{
    datetime::DateTime,
    jetstream::{Context, ErrorCode, response::Response, stream},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::future::try_join_all;
use serde::Deserialize;
use serde_json::{Value, json};

/// A message as it is stored, whatever it holds.
#[derive(Debug, Clone)]
pub struct RawMessage {
    pub sequence: u64,
    pub subject: String,
    pub time: DateTime,
    /// As on the wire; empty if it has none.
    pub headers: Bytes,
    pub payload: Bytes,
}

impl RawMessage {
    /// Whether a client that is sent the message survives it.
    pub fn has_readable_headers(&self) -> bool {
        self.headers.is_empty() || headers::parse(&self.headers).is_some()
    }
}

/// The message at `sequence`; `None` if there is none, or no such stream.
///
/// # Errors
/// If `JetStream` does not answer.
pub async fn at(
    jetstream: &Context,
    stream: &str,
    sequence: u64,
) -> anyhow::Result<Option<RawMessage>> {
    get(jetstream, stream, json!({ "seq": sequence })).await
}

/// The first message on `subject` at `sequence` or behind it.
///
/// # Errors
/// If `JetStream` does not answer.
pub async fn next(
    jetstream: &Context,
    stream: &str,
    subject: &str,
    sequence: u64,
) -> anyhow::Result<Option<RawMessage>> {
    let request = json!({ "seq": sequence, "next_by_subj": subject });
    get(jetstream, stream, request).await
}

/// The first message on any of `subjects` at `sequence` or behind it.
///
/// # Errors
/// If `JetStream` does not answer.
pub async fn next_of_any(
    jetstream: &Context,
    stream: &str,
    subjects: &[String],
    sequence: u64,
) -> anyhow::Result<Option<RawMessage>> {
    let next = subjects
        .iter()
        .map(|subject| next(jetstream, stream, subject, sequence));
    let found = try_join_all(next).await?.into_iter().flatten();
    Ok(found.min_by_key(|message| message.sequence))
}

/// The last message on any of `subjects`.
///
/// # Errors
/// If `JetStream` does not answer.
pub async fn last_of_any(
    jetstream: &Context,
    stream: &str,
    subjects: &[String],
) -> anyhow::Result<Option<RawMessage>> {
    let last = subjects
        .iter()
        .map(|subject| get(jetstream, stream, json!({ "last_by_subj": subject })));
    let found = try_join_all(last).await?.into_iter().flatten();
    Ok(found.max_by_key(|message| message.sequence))
}

async fn get(
    jetstream: &Context,
    stream: &str,
    request: Value,
) -> anyhow::Result<Option<RawMessage>> {
    #[derive(Deserialize)]
    struct Found {
        message: stream::RawMessage,
    }
    let subject = format!("STREAM.MSG.GET.{stream}");
    match jetstream.request(subject, &request).await? {
        Response::Ok(Found { message }) => decode(message).map(Some),
        Response::Err { error } if is_missing(error.error_code()) => Ok(None),
        Response::Err { error } => bail!(error),
    }
}

fn is_missing(code: ErrorCode) -> bool {
    [ErrorCode::NO_MESSAGE_FOUND, ErrorCode::STREAM_NOT_FOUND].contains(&code)
}

fn decode(message: stream::RawMessage) -> anyhow::Result<RawMessage> {
    let headers = message.headers.unwrap_or_default();
    let decode = |text: &str| BASE64_STANDARD.decode(text).context("base64 was expected");
    Ok(RawMessage {
        sequence: message.sequence,
        subject: message.subject,
        time: message.time,
        headers: decode(&headers)?.into(),
        payload: decode(&message.payload)?.into(),
    })
}
