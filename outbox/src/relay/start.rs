//! Where a session begins: at the saved cursor, if stream and ledger are still what it stands for.
//! Otherwise at the newest checkpoint of which that is true, or at the beginning of the ledger. Events
//! between there and the saved cursor are published again.

use async_nats::jetstream::Context;
use postgres_pool::Pool;
use service_runtime::nats::Topic;

use super::{
    cursor::{self, Cursor},
    failure::Failure,
    lease::Lease,
    ledger_check, stream_check,
};

/// What the saved cursor no longer agrees with.
#[derive(Default, PartialEq, Eq)]
struct Lost {
    /// The stream has lost events that it had acknowledged.
    on_stream: bool,
    /// The ledger was restored to an earlier state, or its sequence was.
    in_ledger: bool,
}

pub(super) async fn find(
    pool: &Pool,
    jetstream: &Context,
    topic: &Topic,
    lease: &Lease,
) -> Result<Cursor, Failure> {
    let mut lost = Lost::default();
    let saved = cursor::load(pool).await?;
    let mut found = saved.clone();
    if ledger_check::is_behind(pool).await? {
        // No checkpoint says which ids were given out a second time: any below the sequence.
        lost.in_ledger = true;
        found = Cursor::default();
        let next_id = ledger_check::advance_sequence(pool).await?;
        tracing::error!(
            cursor_outbox_id = saved.position.last_id(),
            next_outbox_id = next_id,
            "the sequence of the outbox was behind the relay's cursor; moved it on"
        );
    }
    loop {
        let in_ledger = ledger_check::has(pool, &found).await?;
        let on_stream = stream_check::has(jetstream, topic, found.tail).await?;
        if in_ledger && on_stream {
            break;
        }
        lost.in_ledger |= !in_ledger;
        lost.on_stream |= !on_stream;
        let earlier = cursor::checkpoint_below(pool, found.tail.sequence).await?;
        found = earlier.unwrap_or_default();
    }
    if lost.on_stream {
        tracing::error!(
            stream = topic.stream,
            acknowledged_sequence = saved.tail.sequence,
            found_sequence = found.tail.sequence,
            from_outbox_id = found.position.last_id(),
            "the stream has lost events that it had acknowledged; publishing the ledger again"
        );
    }
    if lost.in_ledger {
        tracing::error!(
            cursor_outbox_id = saved.position.last_id(),
            from_outbox_id = found.position.last_id(),
            "the outbox is behind the relay's cursor, as after a restore; publishing the ledger again"
        );
    }
    if lost != Lost::default() {
        cursor::move_back(pool, lease, &found).await?;
    }
    Ok(found)
}
