//! Reading the ledger without missing an event.
//!
//! Ids are drawn before commit, so a reader of `id > last_id` alone would pass events that commit
//! late. Ids that it leaps over are kept as gaps and looked for again with every read, until they
//! are filled or provably dead: a gap is dead once every transaction has ended that could have
//! drawn it, and the very snapshot that shows this does not show the event.

use std::ops::Range;

use postgres_pool::Pool;
use uuid::Uuid;

use super::{cursor::Cursor, failure::Failure, position::Position};
use crate::ledger::{self, OutboxEvent};

/// Gaps that one statement looks at: some 10 ms of work.
const GAPS_AT_ONCE: usize = 2000;

/// What is to be done next for the stream to follow the ledger.
#[derive(Debug)]
pub(super) enum Step {
    Publish(OutboxEvent),
    /// No event will come with these ids.
    Close(Range<i64>),
}

/// What one read found, in the order in which it is to be done.
#[derive(Debug)]
pub(super) struct Steps {
    pub(super) steps: Vec<Step>,
    /// Whether there may be more at once.
    pub(super) more: bool,
}

#[derive(Debug)]
pub(super) struct Reader {
    pool: Pool,
    batch: u16,
    position: Position,
    /// The event with the position's `last_id`.
    last_event_id: Option<Uuid>,
    watch: Option<Watch>,
}

/// Every gap up to `up_to` was seen before `bound` was handed out as an xid, and its drawer has a
/// lower one. So once all below `bound` have ended, no such gap will be filled any more.
#[derive(Debug)]
struct Watch {
    up_to: i64,
    bound: i64,
}

impl Reader {
    pub(super) fn new(pool: Pool, batch: u16, cursor: &Cursor) -> Self {
        Self {
            pool,
            batch,
            position: cursor.position.clone(),
            last_event_id: cursor.last_event_id,
            watch: None,
        }
    }

    /// The next events, at most a batch of new ones and a batch of late ones.
    ///
    /// New ones are read first and come last: whatever preceded one of them for the same user was
    /// committed before it, so the later look into the gaps shows it, and its id is lower.
    ///
    /// # Errors
    /// If Postgres can't be reached, or the ledger has not the event that was read last.
    pub(super) async fn next(&mut self) -> Result<Steps, Failure> {
        let new = self.read_new().await?;
        let mut steps = Vec::with_capacity(new.len());
        if self.position.has_gaps() && !self.read_gaps(&mut steps).await? {
            // Some of the late ones were cut off: the new ones have to wait for them.
            return Ok(Steps { steps, more: true });
        }
        let more = new.len() == usize::from(self.batch);
        for event in new {
            self.position.pass(event.id);
            self.last_event_id = Some(event.event_id);
            steps.push(Step::Publish(event));
        }
        self.watch_gaps().await?;
        Ok(Steps { steps, more })
    }

    /// The events above the last one, read together with that one. If it is not there, the ledger
    /// was restored to an earlier state, and ids that were read before are given out again. One
    /// statement reads both, so no event can hide behind an id that was read before.
    async fn read_new(&mut self) -> Result<Vec<OutboxEvent>, Failure> {
        let last_id = self.position.last_id();
        let mut events = ledger::read_after(&self.pool, last_id - 1, self.batch + 1).await?;
        let last = events.first().filter(|event| event.id == last_id);
        let last_event_id = last.map(|event| event.event_id);
        if self.last_event_id.is_some() && self.last_event_id != last_event_id {
            return Err(Failure::LedgerChanged);
        }
        if last_event_id.is_some() {
            self.last_event_id = last_event_id;
            events.remove(0);
        }
        events.truncate(self.batch.into());
        Ok(events)
    }

    /// Whether every gap was looked at. They are looked at in slices, lowest ids first, so that no
    /// statement takes long however many there are. The order holds across slices: whatever is found
    /// in a gap drew its id before the first slice was read, so what precedes it for the same user
    /// had been committed by then.
    async fn read_gaps(&mut self, steps: &mut Vec<Step>) -> sqlx::Result<bool> {
        let gaps: Vec<_> = self.position.gaps().collect();
        let mut horizon = i64::MAX;
        for slice in gaps.chunks(GAPS_AT_ONCE) {
            let filled = ledger::read_gaps(&self.pool, slice, self.batch).await?;
            for event in filled.events {
                self.position.pass(event.id);
                steps.push(Step::Publish(event));
            }
            if steps.len() >= usize::from(self.batch) {
                return Ok(false);
            }
            // Each gap was absent from a snapshot with this horizon or a later one.
            horizon = horizon.min(filled.horizon);
        }
        if let Some(watch) = self.watch.take_if(|it| it.bound <= horizon) {
            let dead: Vec<_> = (self.position.gaps())
                .take_while(|gap| gap.end <= watch.up_to)
                .collect();
            for gap in dead {
                self.position.close(gap.clone());
                steps.push(Step::Close(gap));
            }
        }
        Ok(true)
    }

    /// One watch at a time: those gaps that come while it stands wait for the next one.
    async fn watch_gaps(&mut self) -> sqlx::Result<()> {
        if self.watch.is_none() && self.position.has_gaps() {
            let up_to = self.position.last_id();
            let bound = ledger::bound(&self.pool).await?;
            self.watch = Some(Watch { up_to, bound });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
