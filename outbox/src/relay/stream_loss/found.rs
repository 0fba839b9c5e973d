//! Which events of the ledger the stream still has.

use std::ops::RangeInclusive;

use async_nats::jetstream::Context;
use postgres_pool::Pool;
use service_runtime::nats::Topic;

use crate::{
    ledger,
    relay::{
        failure::Failure,
        stored_message::{StoredMessage, each},
    },
    said,
};

/// Messages whose events are compared with the ledger at once.
const CHUNK: i64 = 1000;

/// Calls `note` with the sequence and the id of each event of the ledger among the messages at these
/// sequences, in order. A message on another subject is none: a replay for one consumer names its event
/// as well. Nor is one of a write that a restore has undone, though its id may have been drawn again.
pub(super) async fn each_event(
    (pool, jetstream, topic): (&Pool, &Context, &Topic),
    sequences: RangeInclusive<i64>,
    mut note: impl FnMut(i64, i64),
) -> Result<(), Failure> {
    let (mut first, last) = sequences.into_inner();
    while first <= last {
        let end = last.min(first + CHUNK - 1);
        let mut found = Vec::new();
        each(
            jetstream,
            &topic.stream,
            first..=end,
            |sequence, message| {
                let message = message.filter(|it| it.subject() == topic.subject);
                if let Some((id, event_id)) = message.as_ref().and_then(event) {
                    found.push((sequence, (id, event_id)));
                }
            },
        )
        .await?;
        let events: Vec<_> = found.iter().map(|(_, event)| *event).collect();
        let lacks = ledger::lacks(pool, &events).await?;
        for ((sequence, (id, _)), is_lacking) in found.into_iter().zip(lacks) {
            if !is_lacking {
                note(sequence, id);
            }
        }
        first = end + 1;
    }
    Ok(())
}

/// As far as the message says which it is.
fn event(message: &StoredMessage) -> Option<(i64, uuid::Uuid)> {
    let said = said::read(&message.headers()?).ok()?;
    Some((said.id?, said.event_id))
}
