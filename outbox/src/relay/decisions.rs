//! What the relay decides, recorded for `protocol-model`, which knows what is allowed. While nobody asks for
//! it, each costs a load and a branch.

use std::ops::{Range, RangeInclusive};

use async_nats::jetstream::publish::PublishAck;
use service_runtime::telemetry::decisions::TARGET;
use tracing::trace;

use super::{cursor::Cursor, lease::Lease, owned::Owned, position::Position};
use crate::ledger::Entry;

pub(super) fn lease_taken(lease: &Lease) {
    let Lease { epoch, identity } = lease;
    trace!(target: TARGET, decision = "lease_taken", epoch, database = identity);
}

pub(super) fn lease_lost(lease: &Lease) {
    trace!(target: TARGET, decision = "lease_lost", epoch = lease.epoch);
}

/// From the saved cursor. Events of lost messages are gaps of it.
pub(super) fn session_began(
    owned: &Owned,
    cursor: &Cursor,
    refill: impl IntoIterator<Item = Range<i64>>,
    missing: &[RangeInclusive<i64>],
) {
    trace!(
        target: TARGET,
        decision = "session_began",
        stream = owned.stream,
        epoch = owned.epoch,
        database = owned.identity,
        last_id = cursor.position.last_id(),
        gaps = gaps(&cursor.position),
        tail = cursor.tail.sequence,
        refill = ranges(refill),
        missing = sequences(missing),
    );
}

pub(super) fn moved_back(owned: &Owned, from: &Cursor, to: &Cursor) {
    trace!(
        target: TARGET,
        decision = "moved_back",
        stream = owned.stream,
        epoch = owned.epoch,
        from_id = from.position.last_id(),
        last_id = to.position.last_id(),
        tail = to.tail.sequence,
    );
}

pub(super) fn moved_to_the_beginning(lease: &Lease, stream: &str) {
    let epoch = lease.epoch;
    trace!(target: TARGET, decision = "moved_back", stream, epoch, last_id = 0);
}

pub(super) fn gaps_dead(up_to: i64, bound: i64, horizon: i64) {
    trace!(target: TARGET, decision = "gaps_dead", up_to, bound, horizon);
}

/// `is_again`: under another message id.
pub(super) fn sent(owned: &Owned, entry: &Entry, is_again: bool) {
    trace!(
        target: TARGET,
        decision = "sent",
        stream = owned.stream,
        epoch = owned.epoch,
        outbox_id = entry.id,
        aggregate = format!("{}/{}", entry.aggregate_type, entry.aggregate_id),
        version = entry.version,
        is_again,
    );
}

pub(super) fn acknowledged(owned: &Owned, outbox_id: i64, ack: &PublishAck) {
    trace!(
        target: TARGET,
        decision = if ack.duplicate { "duplicate" } else { "published" },
        stream = owned.stream,
        epoch = owned.epoch,
        outbox_id,
        sequence = ack.sequence,
    );
}

/// Without being published: `why` is the decision.
pub(super) fn passed(owned: &Owned, why: &'static str, ids: &Range<i64>) {
    trace!(
        target: TARGET,
        decision = why,
        stream = owned.stream,
        epoch = owned.epoch,
        ids = ranges([ids.clone()]),
    );
}

pub(super) fn cursor_saved(owned: &Owned, cursor: &Cursor) {
    trace!(
        target: TARGET,
        decision = "cursor_saved",
        stream = owned.stream,
        epoch = owned.epoch,
        last_id = cursor.position.last_id(),
        gaps = gaps(&cursor.position),
        tail = cursor.tail.sequence,
    );
}

pub(super) fn loss_noted(
    owned: &Owned,
    missing: &[RangeInclusive<i64>],
    ids: impl IntoIterator<Item = Range<i64>>,
) {
    trace!(
        target: TARGET,
        decision = "loss_noted",
        stream = owned.stream,
        epoch = owned.epoch,
        missing = sequences(missing),
        ids = ranges(ids),
    );
}

/// Above this version, the greatest that the stream has of it.
pub(super) fn restated(owned: &Owned, aggregate_type: &str, id: &str, above: Option<i64>) {
    trace!(
        target: TARGET,
        decision = "restated",
        stream = owned.stream,
        epoch = owned.epoch,
        aggregate = format!("{aggregate_type}/{id}"),
        above,
    );
}

fn gaps(position: &Position) -> String {
    ranges(position.gaps())
}

/// `3..5 8..9`
fn ranges(ranges: impl IntoIterator<Item = Range<i64>>) -> String {
    let ranges = ranges.into_iter().map(|it| format!("{it:?}"));
    ranges.collect::<Vec<_>>().join(" ")
}

fn sequences(missing: &[RangeInclusive<i64>]) -> String {
    ranges(missing.iter().map(|it| *it.start()..*it.end() + 1))
}
