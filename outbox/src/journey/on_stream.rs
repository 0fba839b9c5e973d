//! Finding an event on its stream, which has no index of events either: a bounded part is read from
//! where it may begin.

use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use chrono::{DateTime, Utc};
use service_runtime::nats::headers::{CE_ID, REPLAY_OF};
use tokio::time;
use uuid::Uuid;

use super::{
    StreamPlace,
    ledger::{Delivery, Entry},
};
use crate::{
    header_reader::{HeaderReader, Received},
    nats_on_demand::{NatsOnDemand, stream_info},
};

const DEADLINE: Duration = Duration::from_secs(2);
const MAX_MESSAGES: u64 = 20_000;
const BATCH: u64 = 1_000;
/// Before the sequence that the stream had by then: after a crash some events are published again,
/// in another order.
const MARGIN: u64 = 2_048;
/// By which the clocks of Postgres and NATS may differ.
const CLOCK_MARGIN: Duration = Duration::from_secs(5);

pub(super) enum Outcome {
    Found(StreamPlace),
    /// It is not there.
    Absent,
    /// Nobody knows: NATS is away, or there is too much to read.
    Undecided,
}

pub(super) async fn look_up(nats: &NatsOnDemand, entry: &Entry, delivery: &Delivery) -> Outcome {
    let looking = read(nats, entry, delivery);
    match time::timeout(DEADLINE, looking).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => {
            let error = format!("{error:#}");
            tracing::debug!(error, "an event could not be looked up on its stream");
            Outcome::Undecided
        }
        Err(_) => Outcome::Undecided,
    }
}

async fn read(nats: &NatsOnDemand, entry: &Entry, delivery: &Delivery) -> anyhow::Result<Outcome> {
    let jetstream = nats.jetstream().await?;
    if stream_info(&jetstream, &delivery.stream).await?.is_none() {
        return Ok(Outcome::Absent);
    }
    let start = start(delivery.after_sequence, entry.created_at);
    let mut reader = HeaderReader::open(&jetstream, &delivery.stream, start).await?;
    let outcome = find(&mut reader, entry.event_id).await;
    reader.close().await;
    outcome
}

async fn find(reader: &mut HeaderReader, event_id: Uuid) -> anyhow::Result<Outcome> {
    let event_id = event_id.to_string();
    let is_it = |received: &Received| {
        let header = |name| received.headers.get(name).map(|it| it.as_str());
        header(CE_ID) == Some(&event_id) && header(REPLAY_OF).is_none()
    };
    let behind = reader.pending_at_open();
    for read in 0..behind.min(MAX_MESSAGES) {
        reader.ask(BATCH.min(behind - read)).await?;
        let received = reader.next().await?;
        if is_it(&received) {
            return Ok(Outcome::Found(StreamPlace {
                sequence: received.sequence,
                published_at: received.published_at,
            }));
        }
        if received.pending == 0 {
            return Ok(Outcome::Absent);
        }
    }
    Ok(match behind > MAX_MESSAGES {
        true => Outcome::Undecided,
        false => Outcome::Absent,
    })
}

fn start(after_sequence: Option<i64>, written_at: DateTime<Utc>) -> DeliverPolicy {
    let after = after_sequence.and_then(|it| u64::try_from(it).ok());
    if let Some(after) = after.filter(|it| *it > 0) {
        let start_sequence = after.saturating_sub(MARGIN).max(1);
        return DeliverPolicy::ByStartSequence { start_sequence };
    }
    let start = (written_at - CLOCK_MARGIN).timestamp();
    async_nats::datetime::DateTime::from_unix_timestamp(start)
        .map_or(DeliverPolicy::All, |start_time| {
            DeliverPolicy::ByStartTime { start_time }
        })
}
