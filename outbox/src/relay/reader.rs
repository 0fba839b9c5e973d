//! Reading the ledger without missing an event.
//!
//! Ids are drawn before commit, so a reader of `id > last_id` alone would pass events that commit
//! late. Ids that it leaps over are kept as gaps and looked for again with every read, until they
//! are filled or provably dead: a gap is dead once every transaction has ended that could have
//! drawn it, and the very snapshot that shows this does not show the event.

mod batch;
mod gap_age;

use std::{ops::Range, time::Duration};

use postgres_pool::Pool;
use uuid::Uuid;

use self::{batch::Batch, gap_age::GapAge};
use super::{
    cursor::Cursor, decisions, failure::Failure, orphans::superseded::Superseded,
    position::Position, task::Task,
};
use crate::{
    ledger::{self, Entry, Selection},
    route::{RoutedStream, Routes},
};

/// Gaps that one statement looks at: some 10 ms of work.
const GAPS_AT_ONCE: usize = 2000;

/// Of payloads that several such statements find: then the read ends.
const MOST_BYTES: usize = 8 << 20;

/// What one read found, in the order in which it is to be done.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) tasks: Vec<Task>,
    /// Whether there may be more at once.
    pub(super) more: bool,
}

/// Whose events a reader looks for.
#[derive(Debug, Clone)]
pub(super) struct Interest {
    pub(super) selection: Selection,
    /// Of those that are selected: others are parked.
    pub(super) routed_types: Vec<String>,
    /// Of the database to read from; `None`: of any.
    pub(super) identity: Option<String>,
}

impl Interest {
    /// The first stream's reader sees to events that have no route as well.
    pub(super) fn of(stream: &RoutedStream, routes: &Routes, identity: &str) -> Self {
        let is_first = routes.streams().first() == Some(stream);
        Self {
            selection: if is_first {
                Selection::AllBut(routes.types_of_others(stream))
            } else {
                Selection::Only(stream.aggregate_types.clone())
            },
            routed_types: stream.aggregate_types.clone(),
            identity: Some(identity.to_owned()),
        }
    }
}

#[derive(Debug)]
pub(super) struct Reader {
    pool: Pool,
    batch: u16,
    interest: Interest,
    position: Position,
    /// The event with the position's `last_id`.
    last_event_id: Option<Uuid>,
    /// Events that are not to be published any more.
    superseded: Option<Superseded>,
    watch: Option<Watch>,
    /// Gaps that hold events which the stream has lost. They hold up nothing: newer ones of their
    /// aggregates are on it.
    refill: Vec<Range<i64>>,
    found: Batch,
    gap_age: GapAge,
}

/// Every gap up to `up_to` was seen before `bound` was handed out as an xid, and its drawer has a
/// lower one. So once all below `bound` have ended, no such gap will be filled any more.
#[derive(Debug)]
struct Watch {
    up_to: i64,
    bound: i64,
}

impl Reader {
    pub(super) fn new(pool: Pool, batch: u16, interest: Interest, cursor: &Cursor) -> Self {
        Self {
            pool,
            batch,
            found: Batch::new(interest.routed_types.clone()),
            interest,
            position: cursor.position.clone(),
            last_event_id: cursor.last_event_id,
            superseded: None,
            watch: None,
            refill: Vec::new(),
            gap_age: GapAge::default(),
        }
    }

    pub(super) fn without(self, superseded: Option<Superseded>) -> Self {
        Self { superseded, ..self }
    }

    /// The events with these ids come after all others, as far as they were read before: what is above
    /// comes in its place.
    pub(super) fn with_refill(self, mut refill: Vec<Range<i64>>) -> Self {
        let end = self.position.last_id() + 1;
        refill.retain_mut(|ids| {
            ids.end = ids.end.min(end);
            !ids.is_empty()
        });
        Self { refill, ..self }
    }

    /// For how long this reader has awaited the id that is missing for longest.
    pub(super) fn oldest_gap_age(&self) -> Duration {
        self.gap_age.get()
    }

    /// What was read so far.
    pub(super) fn position(&self) -> &Position {
        &self.position
    }

    /// The next events, at most a batch of new ones, one of late ones and one of those that the stream
    /// has lost.
    ///
    /// New ones are read first and come last: whatever preceded one of them for the same aggregate
    /// was committed before it, so the later look into the gaps shows it, and its id is lower.
    ///
    /// # Errors
    /// If Postgres can't be reached, or the ledger has not the event that was read last.
    pub(super) async fn next(&mut self) -> Result<Found, Failure> {
        let new = self.read_new().await?;
        if self.position.has_gaps() && !self.read_gaps().await? {
            // Some of the late ones were cut off: the new ones have to wait for them.
            let tasks = self.found.take();
            return Ok(Found { tasks, more: true });
        }
        let more = new.len() == usize::from(self.batch);
        for entry in new {
            self.last_event_id = Some(entry.event_id);
            self.pass(entry);
        }
        self.watch_gaps().await?;
        (self.gap_age).note(self.position.last_id(), self.lowest_gap());
        self.read_refill().await?;
        let more = more || !self.refill.is_empty();
        let tasks = self.found.take();
        Ok(Found { tasks, more })
    }

    /// Whether reading may find anything: something was written, is awaited, or is not as it was read.
    pub(super) async fn may_find_more(&self) -> sqlx::Result<bool> {
        if self.position.has_gaps() {
            return Ok(true);
        }
        let last_id = self.position.last_id();
        let identity = self.interest.identity.as_deref();
        let end = ledger::end(&self.pool, last_id, identity).await?;
        Ok(end.is_none_or(|end| end.drawn > last_id || end.event_id != self.last_event_id))
    }

    fn pass(&mut self, entry: Entry) {
        self.position.pass(entry.id);
        let superseded = self.superseded.as_mut();
        match superseded.is_some_and(|it| it.passes(entry.id)) {
            true => self.found.supersede(&entry),
            false => self.found.push(entry),
        }
    }

    /// The events above the last one, read together with that one. If it is not there, the ledger
    /// was restored to an earlier state, and ids that were read before are given out again. One
    /// statement reads both, so no event can hide behind an id that was read before.
    async fn read_new(&mut self) -> Result<Vec<Entry>, Failure> {
        let last_id = self.position.last_id();
        let selection = &self.interest.selection;
        let identity = self.interest.identity.as_deref();
        let limit = self.batch + 1;
        let mut entries =
            ledger::read_from(&self.pool, last_id, limit, selection, identity).await?;
        let last = entries.first().filter(|entry| entry.id == last_id);
        let last_event_id = last.map(|entry| entry.event_id);
        if self.last_event_id.is_some() && self.last_event_id != last_event_id {
            return Err(Failure::LedgerChanged);
        }
        if last_event_id.is_some() {
            self.last_event_id = last_event_id;
            entries.remove(0);
        }
        entries.truncate(self.batch.into());
        self.mark_superseded(&mut entries).await?;
        Ok(entries)
    }

    /// Whether every gap was looked at. They are looked at in slices, lowest ids first, so that no
    /// statement takes long however many there are. The order holds across slices: whatever is found
    /// in a gap drew its id before the first slice was read, so what precedes it for the same
    /// aggregate had been committed by then.
    async fn read_gaps(&mut self) -> sqlx::Result<bool> {
        let gaps = self.late_gaps();
        let mut horizon = i64::MAX;
        let (mut found, mut bytes) = (0, 0);
        for slice in gaps.chunks(GAPS_AT_ONCE) {
            let selection = &self.interest.selection;
            let identity = self.interest.identity.as_deref();
            let mut filled =
                ledger::read_gaps(&self.pool, slice, self.batch, selection, identity).await?;
            self.mark_superseded(&mut filled.entries).await?;
            found += filled.entries.len();
            for entry in filled.entries {
                bytes += entry.payload.len();
                self.pass(entry);
            }
            if filled.is_cut || found >= usize::from(self.batch) || bytes >= MOST_BYTES {
                return Ok(false);
            }
            // Each gap was absent from a snapshot with this horizon or a later one.
            horizon = horizon.min(filled.horizon);
        }
        if let Some(watch) = self.watch.take_if(|it| it.bound <= horizon) {
            decisions::gaps_dead(watch.up_to, watch.bound, horizon);
            self.abandon_gaps(watch.up_to);
        }
        Ok(true)
    }

    /// Those in which an event may appear late.
    fn late_gaps(&self) -> Vec<Range<i64>> {
        if self.refill.is_empty() {
            return self.position.gaps().collect();
        }
        let mut late = self.position.clone();
        for ids in &self.refill {
            late.abandon(ids.clone());
        }
        late.gaps().collect()
    }

    fn lowest_gap(&self) -> Option<i64> {
        match self.refill.is_empty() {
            true => self.position.gaps().next(),
            false => self.late_gaps().into_iter().next(),
        }
        .map(|gap| gap.start)
    }

    /// Reads the next batch of what the stream has lost. Ranges that have been read through are gaps
    /// like all others.
    async fn read_refill(&mut self) -> sqlx::Result<()> {
        if self.refill.is_empty() {
            return Ok(());
        }
        let mut lost = self.position.clone();
        for gap in self.late_gaps() {
            lost.abandon(gap);
        }
        let gaps: Vec<_> = lost.gaps().collect();
        let slice = &gaps[..gaps.len().min(GAPS_AT_ONCE)];
        let Some(last) = slice.last() else {
            self.refill.clear();
            return Ok(());
        };
        let selection = &self.interest.selection;
        let identity = self.interest.identity.as_deref();
        let filled = ledger::read_gaps(&self.pool, slice, self.batch, selection, identity).await?;
        let mut entries = filled.entries;
        self.mark_superseded(&mut entries).await?;
        if !filled.is_cut {
            let read_to = last.end;
            self.refill.retain_mut(|ids| {
                ids.start = ids.start.max(read_to);
                !ids.is_empty()
            });
        }
        for entry in entries {
            self.pass(entry);
        }
        Ok(())
    }

    async fn mark_superseded(&mut self, entries: &mut [Entry]) -> sqlx::Result<()> {
        match &mut self.superseded {
            Some(superseded) => superseded.mark(&self.pool, entries).await,
            None => Ok(()),
        }
    }

    fn abandon_gaps(&mut self, up_to: i64) {
        let dead: Vec<Range<i64>> = (self.late_gaps().into_iter())
            .take_while(|gap| gap.end <= up_to)
            .collect();
        for gap in dead {
            self.position.abandon(gap.clone());
            self.found.abandon(gap);
        }
    }

    /// One watch at a time: those gaps that come while it stands wait for the next one.
    async fn watch_gaps(&mut self) -> sqlx::Result<()> {
        if self.watch.is_none() && self.position.has_gaps() {
            let up_to = self.position.last_id();
            let identity = self.interest.identity.as_deref();
            let bound = ledger::bound(&self.pool, identity).await?;
            self.watch = bound.map(|bound| Watch { up_to, bound });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
