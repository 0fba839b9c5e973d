//! Noticing a stream that was recreated, or that lost what it had acknowledged (a server's
//! default is to flush to disk every two minutes), and finding the way back.

use async_nats::jetstream::{
    Context,
    stream::{Info, RawMessageErrorKind},
};
use shared_events::{Topic, headers};

use super::{
    cursor::{self, Cursor, Tail},
    failure::Failure,
    lease::Lease,
};

use crate::database::Pool;

/// The saved cursor if the stream still has what it stands for. Otherwise the newest checkpoint
/// of which that is true, or the beginning of the ledger; the cursor is then moved back to it.
pub(super) async fn cursor_on_stream(
    pool: &Pool,
    jetstream: &Context,
    topic: &Topic,
    lease: &Lease,
) -> Result<Cursor, Failure> {
    let saved = cursor::load(pool).await?;
    let mut found = saved.clone();
    while !has(jetstream, topic, found.tail).await? {
        let earlier = cursor::checkpoint_below(pool, found.tail.sequence).await?;
        found = earlier.unwrap_or_default();
    }
    if found.tail != saved.tail {
        tracing::error!(
            stream = topic.stream,
            acknowledged_sequence = saved.tail.sequence,
            found_sequence = found.tail.sequence,
            from_outbox_id = found.position.last_id(),
            "the stream has lost events that it had acknowledged; publishing the ledger again"
        );
        cursor::move_back(pool, lease, &found).await?;
    }
    Ok(found)
}

/// Whether the stream still has the saved cursor's last event.
pub(super) async fn is_whole(
    pool: &Pool,
    jetstream: &Context,
    topic: &Topic,
) -> Result<bool, Failure> {
    let saved = cursor::load(pool).await?;
    has(jetstream, topic, saved.tail).await
}

async fn has(jetstream: &Context, topic: &Topic, tail: Tail) -> Result<bool, Failure> {
    let Tail {
        sequence,
        event_id: Some(event_id),
    } = tail
    else {
        return Ok(true);
    };
    let sequence = u64::try_from(sequence).unwrap_or(u64::MAX);
    let stream = jetstream
        .get_stream(&topic.stream)
        .await
        .map_err(|error| Failure::JetStream(error.to_string()))?;
    let Info { state, .. } = stream.cached_info();
    if state.last_sequence < sequence {
        return Ok(false);
    }
    if state.first_sequence > sequence {
        // Expired, as it was meant to.
        return Ok(true);
    }
    match stream.get_raw_message(sequence).await {
        Ok(message) => {
            let id = message.headers.get(headers::MESSAGE_ID);
            Ok(id.is_some_and(|id| id.as_str() == event_id.to_string()))
        }
        // Removed by hand.
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(true),
        Err(error) => Err(Failure::JetStream(error.to_string())),
    }
}
