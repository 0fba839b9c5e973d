//! Noticing a stream that was recreated, or that lost what it had acknowledged (a server's
//! default is to flush to disk every two minutes).

use async_nats::jetstream::{
    Context,
    stream::{Info, RawMessageErrorKind},
};
use postgres_pool::Pool;
use service_runtime::nats::{Topic, headers};
use uuid::Uuid;

use super::{
    STREAM_TIMEOUT,
    cursor::{self, Tail},
    failure::{Failure, within},
    stream_info,
};

/// Whether the stream still has the saved cursor's last event.
pub(super) async fn is_whole(
    pool: &Pool,
    jetstream: &Context,
    topic: &Topic,
) -> Result<bool, Failure> {
    let saved = cursor::load(pool, &topic.stream).await?;
    let info = stream_info::info(jetstream, &topic.stream).await?;
    has(jetstream, &info, saved.tail).await
}

/// Whether the stream still has this event, or had it for as long as it keeps events.
pub(super) async fn has(jetstream: &Context, info: &Info, tail: Tail) -> Result<bool, Failure> {
    match (u64::try_from(tail.sequence), tail.event_id) {
        (Ok(sequence), Some(_)) if info.state.last_sequence < sequence => Ok(false),
        // Expired, as it was meant to.
        (Ok(sequence), Some(_)) if info.state.first_sequence > sequence => Ok(true),
        (Ok(sequence), Some(event_id)) => {
            let stands_there = stands_at(jetstream, &info.config.name, sequence, event_id);
            within(STREAM_TIMEOUT, stands_there).await
        }
        _ => Ok(true),
    }
}

/// Whether the stream's end is not below this event.
pub(super) fn reaches(info: &Info, tail: Tail) -> bool {
    tail.event_id.is_none() || end(info) >= tail.sequence
}

/// The last sequence of the stream.
pub(super) fn end(info: &Info) -> i64 {
    i64::try_from(info.state.last_sequence).unwrap_or(i64::MAX)
}

async fn stands_at(
    jetstream: &Context,
    stream: &str,
    sequence: u64,
    event_id: Uuid,
) -> Result<bool, Failure> {
    let stream = jetstream.get_stream_no_info(stream).await;
    let stream = stream.map_err(|error| Failure::JetStream(error.to_string()))?;
    match stream.get_raw_message(sequence).await {
        Ok(message) => {
            // The message has another id if it was published again.
            let id = message.headers.get(headers::CE_ID);
            Ok(id.is_some_and(|id| id.as_str() == event_id.to_string()))
        }
        // Removed by hand.
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(true),
        Err(error) => Err(Failure::JetStream(error.to_string())),
    }
}
