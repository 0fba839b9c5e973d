//! Which events of the ledger stood at sequences that are missing.
//!
//! Checkpoints tell which events the cursor had passed at some sequences. So what a later one has
//! passed and an earlier one has not was published between them, and what of this is not found on the
//! stream there is what is missing.

use std::ops::{Range, RangeInclusive};

use async_nats::jetstream::Context;
use postgres_pool::Pool;
use service_runtime::nats::Topic;

use super::{
    Watch, found,
    missing::unknown,
    store::{self, Loss},
};
use crate::relay::{
    cursor::{self, Cursor},
    decisions,
    failure::Failure,
    position::Position,
    stream_info,
};

/// Late events stand behind those with higher ids, by so many at most for all that is known.
const LATE: i64 = 1000;

/// The cursor before something was published, and after.
struct Window {
    from: Cursor,
    /// Its gaps have been lost and published again behind `from` since.
    again: Position,
    /// Missing sequences up to this one belong to this window.
    reaches: i64,
    to: Cursor,
    /// By the saved cursor.
    not_passed: Vec<Range<i64>>,
}

/// Notes what is missing together with the events that are to be published again. Whether there was
/// anything.
pub(super) async fn note_losses(
    watch: Watch<'_>,
    missing: Vec<RangeInclusive<i64>>,
) -> Result<bool, Failure> {
    let Watch {
        pool,
        jetstream,
        topic,
        owned,
        metrics,
        ..
    } = watch;
    let is_any = !missing.is_empty();
    let mut missing = missing.into_iter().peekable();
    while let Some(first) = missing.next() {
        let window = window(pool, &owned.stream, &first).await?;
        let mut together = vec![first];
        while let Some(next) = missing.next_if(|it| *it.end() <= window.reaches) {
            together.push(next);
        }
        let loss = loss(pool, jetstream, topic, &window, together).await?;
        if !store::insert(pool, owned, &loss).await? {
            return Err(Failure::MessagesMissing);
        }
        decisions::loss_noted(owned, &loss.missing, loss.ids.iter().cloned());
        metrics.lost(loss.messages());
        metrics
            .unrecoverable
            .increment(u64::from(!loss.is_complete));
        report(&owned.stream, &loss);
    }
    Ok(is_any)
}

async fn window(
    pool: &Pool,
    stream: &str,
    missing: &RangeInclusive<i64>,
) -> Result<Window, Failure> {
    let from = cursor::checkpoint_below(pool, stream, *missing.start()).await?;
    let from = from.unwrap_or_default();
    let saved = cursor::load(pool, stream).await?;
    let rest = saved.position.last_id() + 1..store::NO_END;
    let not_passed = saved.position.gaps().chain([rest]).collect();
    let after = cursor::checkpoints_from(pool, stream, *missing.end(), 2).await?;
    // What the checkpoint has passed may have been lost since and stand further behind, where it may be
    // lost again: only all of the stream tells.
    let mut again = Position::new(i64::MAX - 1, []);
    for ids in store::published_again_behind(pool, stream, from.tail.sequence).await? {
        again.reopen(ids);
    }
    let (reaches, to) = if again.has_gaps() {
        // Once, for all that is missing.
        (saved.tail.sequence, saved)
    } else {
        let reaches = after.first().unwrap_or(&saved).tail.sequence;
        // An event that was published before a crash and again after it may be passed a little later than
        // others at higher sequences. So the checkpoint after the next one tells.
        (reaches, after.into_iter().nth(1).unwrap_or(saved))
    };
    Ok(Window {
        from,
        again,
        reaches,
        to,
        not_passed,
    })
}

async fn loss(
    pool: &Pool,
    jetstream: &Context,
    topic: &Topic,
    window: &Window,
    missing: Vec<RangeInclusive<i64>>,
) -> Result<Loss, Failure> {
    let stream = &topic.stream;
    let before = window.from.tail.sequence;
    let info = stream_info::info(jetstream, stream).await?;
    let from = stream_info::first_sequence(&info).max(before + 1);
    let mut position = window.from.position.clone();
    let mut again = window.again.clone();
    let last = window.to.tail.sequence;
    let first_missing = missing.first().map_or(last, |it| *it.start());
    let mut lowest_kept = None;
    for sequences in unknown(&[from..=last], last, &missing) {
        found::each_event((pool, jetstream, topic), sequences, |sequence, id| {
            position.pass(id);
            again.pass(id);
            if sequence < first_missing {
                lowest_kept = Some(lowest_kept.unwrap_or(id).min(id));
            }
        })
        .await?;
    }
    // What has expired between the checkpoint and the stream's first message is not missing.
    let expired = lowest_kept.filter(|_| from > before + 1);
    if let Some(expired) = expired {
        position.pass_all(1..(expired - LATE).max(1));
    }
    // What `from` had passed is missing where it stood behind that since. (If it has expired there, it comes
    // once more, and is old news.)
    for ids in again.gaps() {
        position.reopen(ids);
    }
    let ids = open(&position, &window.to.position);
    let ledger_from = store::ledger_from(pool).await?;
    let is_complete = (ids.iter())
        .map(|ids| expired.unwrap_or_default().clamp(ids.start, ids.end))
        .zip(&ids)
        .all(|(start, ids)| start == ids.end || start >= ledger_from);
    let in_ledger = |ids: Range<i64>| ids.start.max(ledger_from)..ids.end;
    let ids = ids.into_iter().map(in_ledger);
    Ok(Loss {
        missing,
        ids: ids.filter(|ids| !ids.is_empty()).collect(),
        not_passed: window.not_passed.clone(),
        is_complete,
    })
}

/// What `to` has passed and `found` has not.
fn open(found: &Position, to: &Position) -> Vec<Range<i64>> {
    let end = to.last_id() + 1;
    let rest = found.last_id() + 1..end;
    let gaps = found.gaps().map(|gap| gap.start..gap.end.min(end));
    let gaps = gaps.chain([rest]).filter(|gap| !gap.is_empty());
    let mut open = Position::new(to.last_id(), gaps);
    for gap in to.gaps() {
        open.abandon(gap);
    }
    open.gaps().collect()
}

fn report(stream: &str, loss: &Loss) {
    let ranges = &loss.missing;
    let messages = loss.messages();
    let first_sequence = ranges.first().map(|it| *it.start());
    let last_sequence = ranges.last().map(|it| *it.end());
    tracing::error!(
        stream,
        messages,
        first_sequence,
        last_sequence,
        "messages have left the stream before their time; publishing their events again"
    );
    if !loss.is_complete {
        tracing::error!(
            stream,
            first_sequence,
            last_sequence,
            "the outbox no longer has all events of the lost messages; readers have to be verified: \
             publish all aggregates again, then compare each copy and repair it"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{Position, open};

    #[test]
    fn what_was_passed_between_and_is_not_found_is_open() {
        let mut found = Position::new(10, [3..4, 7..9]);
        for id in [7, 11, 14, 30] {
            found.pass(id);
        }
        let to = Position::new(20, [3..4, 13..14]);
        assert_eq!(open(&found, &to), [8..9, 12..13, 15..21]);
        let to = Position::new(9, [2..3, 4..6]);
        assert_eq!(open(&Position::default(), &to), [1..2, 3..4, 6..10]);
        assert_eq!(open(&to, &to), []);
    }
}
