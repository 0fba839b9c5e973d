//! A message of the stream, read by its sequence through the API that returns headers in base64.
//!
//! A delivery with headers that the client can't parse costs it its connection, and with it all that
//! is in flight; this does not. Anybody can publish such a message.

use std::{ops::RangeInclusive, str::FromStr};

use async_nats::{
    HeaderMap, HeaderName, HeaderValue,
    jetstream::{Context, ErrorCode, response::Response, stream::RawMessage},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use futures::{StreamExt, TryStreamExt};
use serde::Deserialize;
use serde_json::json;

use super::{
    STREAM_TIMEOUT,
    failure::{Failure, within},
};

/// Messages that are asked for at once.
const CONCURRENCY: usize = 32;

pub(super) struct StoredMessage(RawMessage);

impl StoredMessage {
    pub(super) fn subject(&self) -> &str {
        &self.0.subject
    }

    /// As far as they can be read; `None` if they are no text.
    pub(super) fn headers(&self) -> Option<HeaderMap> {
        let block = self.0.headers.as_deref().unwrap_or_default();
        let block = String::from_utf8(BASE64_STANDARD.decode(block).ok()?).ok()?;
        let mut headers = HeaderMap::new();
        for line in block.lines() {
            if let Some((name, value)) = line.split_once(':')
                && let Ok(name) = HeaderName::from_str(name)
                && let Ok(value) = HeaderValue::from_str(value.trim())
            {
                headers.append(name, value);
            }
        }
        Some(headers)
    }

    pub(super) fn payload(&self) -> Option<Vec<u8>> {
        BASE64_STANDARD.decode(&self.0.payload).ok()
    }
}

/// Reads all messages at these sequences, in order.
pub(super) async fn each(
    jetstream: &Context,
    stream: &str,
    sequences: RangeInclusive<i64>,
    mut note: impl FnMut(i64, Option<StoredMessage>),
) -> Result<(), Failure> {
    let reads = futures::stream::iter(sequences)
        .map(|sequence| async move {
            let found = get(jetstream, stream, sequence).await?;
            Ok::<_, Failure>((sequence, found))
        })
        .buffered(CONCURRENCY);
    let mut reads = std::pin::pin!(reads);
    while let Some((sequence, found)) = TryStreamExt::try_next(&mut reads).await? {
        note(sequence, found);
    }
    Ok(())
}

/// `None` if there is no message that can be read.
async fn get(
    jetstream: &Context,
    stream: &str,
    sequence: i64,
) -> Result<Option<StoredMessage>, Failure> {
    #[derive(Deserialize)]
    struct Found {
        message: RawMessage,
    }
    let subject = format!("STREAM.MSG.GET.{stream}");
    let request = json!({ "seq": sequence });
    let asking = async {
        let answer = jetstream.request(subject, &request).await;
        answer.map_err(|error| Failure::JetStream(error.to_string()))
    };
    match within(STREAM_TIMEOUT, asking).await? {
        Response::Ok(Found { message }) => Ok(Some(StoredMessage(message))),
        Response::Err { error } if error.error_code() == ErrorCode::NO_MESSAGE_FOUND => Ok(None),
        Response::Err { error } => Err(Failure::JetStream(error.to_string())),
    }
}
