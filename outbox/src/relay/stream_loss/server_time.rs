//! The time of the server.

use async_nats::jetstream::{Context, response::Response};
use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::relay::{
    STREAM_TIMEOUT,
    failure::{Failure, within},
};

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
