//! The time of the server.

use anyhow::anyhow;
use async_nats::{
    datetime::{DateTime, parse_rfc3339},
    jetstream::{Context, response::Response},
};
use serde::Deserialize;

/// What the server's clock says, by which messages expire and pauses end. Another clock may be wrong.
///
/// # Errors
/// If JetStream can't be reached or has no such stream.
pub async fn server_time(jetstream: &Context, stream: &str) -> anyhow::Result<DateTime> {
    #[derive(Deserialize)]
    struct Answered {
        ts: String,
    }
    let subject = format!("STREAM.INFO.{stream}");
    match jetstream.request(subject, &()).await? {
        Response::Ok(Answered { ts }) => {
            parse_rfc3339(&ts).map_err(|error| anyhow!("the server's time: {error}"))
        }
        Response::Err { error } => Err(error.into()),
    }
}
