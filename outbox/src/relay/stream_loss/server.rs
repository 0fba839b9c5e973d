//! What the server says of the stream.

use async_nats::jetstream::{Context, response::Response, stream::Info};
use chrono::{DateTime, Utc};
use futures::TryFutureExt;
use serde::Deserialize;

use crate::relay::{
    STREAM_TIMEOUT,
    failure::{Failure, within},
};

pub(super) async fn info(jetstream: &Context, stream: &str) -> Result<Info, Failure> {
    let asking = jetstream.get_stream(stream);
    let asking = asking.map_err(|error| Failure::JetStream(error.to_string()));
    let stream = within(STREAM_TIMEOUT, asking).await?;
    Ok(stream.cached_info().clone())
}

pub(super) async fn first_sequence(jetstream: &Context, stream: &str) -> Result<i64, Failure> {
    Ok(first_sequence_of(&info(jetstream, stream).await?))
}

/// A stream that never had a message says 0, where none can be.
pub(super) fn first_sequence_of(info: &Info) -> i64 {
    info.state.first_sequence.cast_signed().max(1)
}

/// By which the stream's messages expire.
pub(super) async fn server_time(
    jetstream: &Context,
    stream: &str,
) -> Result<DateTime<Utc>, Failure> {
    #[derive(Deserialize)]
    struct Answered {
        ts: String,
    }
    let asking = async {
        let answer = jetstream
            .request(format!("STREAM.INFO.{stream}"), &())
            .await;
        answer.map_err(|error| Failure::JetStream(error.to_string()))
    };
    match within(STREAM_TIMEOUT, asking).await? {
        Response::Ok(Answered { ts }) => DateTime::parse_from_rfc3339(&ts)
            .map(|it| it.to_utc())
            .map_err(|error| Failure::JetStream(format!("the server's time: {error}"))),
        Response::Err { error } => Err(Failure::JetStream(error.to_string())),
    }
}
