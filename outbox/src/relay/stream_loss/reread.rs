//! Reading the stream: which messages are there, whatever the server counts.
//!
//! A server may not notice that a part of its disk is damaged. It delivers what it can read and says
//! nothing of the rest. What was on its disk when it was started is read once, slowly.

use std::{ops::RangeInclusive, time::Duration};

use async_nats::jetstream::{Context, response::Response, stream::Info};
use chrono::{DateTime, Utc};
use futures::TryFutureExt;
use postgres_pool::Pool;
use serde::Deserialize;
use service_runtime::nats::{Topic, headers};
use tokio::{sync::Mutex, time::sleep};

use super::{missing::unknown, store};
use crate::relay::{
    STREAM_TIMEOUT, cursor,
    failure::{Failure, within},
    stored_message::{StoredMessage, each},
};

/// Messages that are read in one go, and the rest after it: at most some 10,000 a second.
const CHUNK: i64 = 500;
const REST: Duration = Duration::from_millis(50);

/// Of which server all was read, since this relay is active.
#[derive(Debug, Default)]
pub(in crate::relay) struct Reread(Mutex<Option<String>>);

impl Reread {
    /// Sequences that can't be read and are not known for it. Empty if there is nothing new to read.
    pub(super) async fn missing(
        &self,
        pool: &Pool,
        jetstream: &Context,
        topic: &Topic,
    ) -> Result<Vec<RangeInclusive<i64>>, Failure> {
        let stream = &topic.stream;
        let info = info(jetstream, stream).await?;
        let leader = (info.cluster.as_ref()).and_then(|it| it.leader.clone());
        let server_id = jetstream.client().server_info().server_id;
        let server = format!("{server_id} {leader:?}");
        let mut read_server = self.0.lock().await;
        if read_server.as_ref() == Some(&server) {
            return Ok(Vec::new());
        }
        let tail = cursor::load(pool, stream).await?.tail.sequence;
        let mut first = first_sequence_of(&info);
        let mut absent = Vec::new();
        while first <= tail {
            let chunk = first..=tail.min(first + CHUNK - 1);
            first = chunk.end() + 1;
            each(jetstream, stream, chunk, |sequence, found| {
                if found.is_none() {
                    absent.push(sequence);
                }
            })
            .await?;
            sleep(REST).await;
        }
        // What has expired meanwhile is not missing.
        let first = first_sequence(jetstream, stream).await?;
        let absent = absent.into_iter().filter(|it| *it >= first);
        let absent: Vec<_> = absent.map(|it| it..=it).collect();
        let missing = unknown(&absent, tail, &store::missing(pool, stream).await?);
        if missing.is_empty() {
            *read_server = Some(server);
        }
        Ok(missing)
    }
}

async fn info(jetstream: &Context, stream: &str) -> Result<Info, Failure> {
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

/// If the message is an event of an outbox.
pub(super) fn outbox_id(message: &StoredMessage) -> Option<i64> {
    let map = message.headers()?;
    map.get(headers::CE_OUTBOX_ID)?.as_str().parse().ok()
}
