//! Reading the ledger without missing an event.
//!
//! Ids are drawn before commit, so a reader of `id > last_id` alone would pass events that commit
//! late. Ids that it leaps over are kept as gaps and looked for again with every read, until they
//! are filled or provably dead: a gap is dead once every transaction has ended that could have
//! drawn it, and the very snapshot that shows this does not show the event.

use std::ops::Range;

use super::position::Position;
use crate::outbox::{self, OutboxEvent};

use crate::database::Pool;

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
    pub(super) fn new(pool: Pool, batch: u16, position: Position) -> Self {
        Self {
            pool,
            batch,
            position,
            watch: None,
        }
    }

    /// The next events, at most a batch of new ones and a batch of late ones.
    ///
    /// New ones are read first and come last: whatever preceded one of them for the same user was
    /// committed before it, so the later look into the gaps shows it, and its id is lower.
    pub(super) async fn next(&mut self) -> sqlx::Result<Steps> {
        let new = outbox::read_after(&self.pool, self.position.last_id(), self.batch).await?;
        let mut steps = Vec::with_capacity(new.len());
        if self.position.has_gaps() && !self.read_gaps(&mut steps).await? {
            // Some of the late ones were cut off: the new ones have to wait for them.
            return Ok(Steps { steps, more: true });
        }
        let more = new.len() == usize::from(self.batch);
        for event in new {
            self.position.pass(event.id);
            steps.push(Step::Publish(event));
        }
        self.watch_gaps().await?;
        Ok(Steps { steps, more })
    }

    /// Whether the look into the gaps was a whole one.
    async fn read_gaps(&mut self, steps: &mut Vec<Step>) -> sqlx::Result<bool> {
        let filled = outbox::read_gaps(&self.pool, self.position.gaps(), self.batch).await?;
        let whole = filled.events.len() < usize::from(self.batch);
        for event in filled.events {
            self.position.pass(event.id);
            steps.push(Step::Publish(event));
        }
        if whole && let Some(watch) = self.watch.take_if(|it| it.bound <= filled.horizon) {
            let dead: Vec<_> = (self.position.gaps())
                .take_while(|gap| gap.end <= watch.up_to)
                .collect();
            for gap in dead {
                self.position.close(gap.clone());
                steps.push(Step::Close(gap));
            }
        }
        Ok(whole)
    }

    /// One watch at a time: those gaps that come while it stands wait for the next one.
    async fn watch_gaps(&mut self) -> sqlx::Result<()> {
        if self.watch.is_none() && self.position.has_gaps() {
            let up_to = self.position.last_id();
            let bound = outbox::bound(&self.pool).await?;
            self.watch = Some(Watch { up_to, bound });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
