//! Reading what is new in the ledger.
//!
//! Ids become visible out of order, so ids that are missing between those that were seen are looked up
//! again, for a while: people want to see events soon, not all of them at any price.

use std::{convert::Infallible, ops::Range, time::Duration};

use backon::BackoffBuilder;
use chrono::{DateTime, Utc};
use postgres_pool::Pool;
use serde::Serialize;
use service_runtime::backoff;
use sqlx::{PgExecutor, postgres::types::PgRange};
use tokio::time::{self, Instant, MissedTickBehavior};
use uuid::Uuid;

use super::{Batch, MAX_EVENTS, News, TICK};
use crate::ledger::drawn_id;

/// At the beginning so many ids are looked at for those that are missing.
const WINDOW: i64 = 100;
/// How long a missing id is looked for. Longer transactions are rare, and most of these ids belong to
/// transactions that were rolled back.
const LATE: Duration = Duration::from_secs(30);
/// Ranges of missing ids.
const MAX_MISSING: usize = 200;

/// An event in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WrittenEvent {
    /// Its place in the ledger.
    pub outbox_id: i64,
    pub event_id: Uuid,
    pub aggregate_type: String,
    pub aggregate_id: String,
    pub event_type: String,
    /// The aggregate's own version, if it has one.
    pub version: Option<i64>,
    pub written_at: DateTime<Utc>,
}

/// How far the ledger was read.
pub(super) struct Written<'a> {
    pool: &'a Pool,
    /// `None` until Postgres was reached.
    place: Option<Place>,
}

#[derive(Debug, Default)]
struct Place {
    last_id: i64,
    /// In order.
    missing: Vec<Missing>,
}

/// Ids below the last one that were not there.
#[derive(Debug)]
struct Missing {
    ids: Range<i64>,
    since: Instant,
}

/// The columns of an event are null in the only row of an answer without events.
struct Row {
    drawn_id: i64,
    id: Option<i64>,
    event_id: Option<Uuid>,
    aggregate_type: Option<String>,
    aggregate_id: Option<String>,
    event_type: Option<String>,
    version: Option<i64>,
    created_at: Option<DateTime<Utc>>,
}

impl<'a> Written<'a> {
    pub(super) fn new(pool: &'a Pool) -> Self {
        Self { pool, place: None }
    }

    /// Whatever is written from now on is news; without Postgres, what is written once it is there.
    pub(super) async fn begin(&mut self) {
        if let Err(error) = self.next().await {
            tracing::debug!(%error, "the ledger can't be read");
        }
    }

    pub(super) async fn follow(&mut self, tell: &impl Fn(News)) -> Infallible {
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut delays = backoff::unbounded().build();
        loop {
            ticks.tick().await;
            match self.next().await {
                Ok(batch) => {
                    delays = backoff::unbounded().build();
                    if !batch.events.is_empty() {
                        tell(News::Written(batch));
                    }
                }
                // The status says it, and the log once.
                Err(error) => {
                    tracing::debug!(%error, "the ledger can't be read");
                    time::sleep(delays.next().unwrap_or_default()).await;
                }
            }
        }
    }

    async fn next(&mut self) -> sqlx::Result<Batch<WrittenEvent>> {
        let Some(place) = &mut self.place else {
            self.place = Some(Place::now(self.pool).await?);
            return Ok(nothing());
        };
        let rows = read(self.pool, place.last_id, &place.missing).await?;
        let drawn_id = rows.first().map_or(0, |row| row.drawn_id);
        if drawn_id < place.last_id {
            // The database was restored to an earlier state.
            self.place = None;
            return Ok(nothing());
        }
        let events: Vec<_> = rows.into_iter().filter_map(Row::event).collect();
        let skipped = place.pass(events.iter().map(|it| it.outbox_id), Instant::now());
        Ok(Batch { events, skipped })
    }
}

fn nothing() -> Batch<WrittenEvent> {
    Batch {
        events: vec![],
        skipped: 0,
    }
}

impl Place {
    /// Behind all that is there, with the ids that are missing just below it.
    async fn now(pool: &Pool) -> sqlx::Result<Self> {
        let drawn_id = drawn_id(pool).await?;
        let mut place = Self {
            last_id: (drawn_id - WINDOW).max(0),
            missing: vec![],
        };
        let rows = read(pool, place.last_id, &[]).await?;
        place.pass(rows.iter().filter_map(|row| row.id), Instant::now());
        Ok(place)
    }

    /// Passes these ids, which are in order: first those that were missing, at most [`MAX_EVENTS`] of
    /// either kind. Returns how many ids were left out.
    fn pass(&mut self, ids: impl Iterator<Item = i64> + Clone, now: Instant) -> u64 {
        let known = self.last_id;
        for id in ids.clone().filter(|id| *id <= known) {
            self.found(id);
        }
        let is_full = ids.clone().filter(|id| *id > known).count() >= MAX_EVENTS;
        let mut skipped = 0;
        for id in ids.filter(|id| *id > known) {
            let leapt = self.last_id + 1..id;
            if is_full && self.last_id == known {
                skipped = (leapt.end - leapt.start).unsigned_abs();
            } else if !leapt.is_empty() {
                self.missing.push(Missing {
                    ids: leapt,
                    since: now,
                });
            }
            self.last_id = id;
        }
        self.missing
            .retain(|it| now.duration_since(it.since) < LATE);
        let surplus = self.missing.len().saturating_sub(MAX_MISSING);
        self.missing.drain(..surplus);
        skipped
    }

    fn found(&mut self, id: i64) {
        let Some(at) = self.missing.iter().position(|it| it.ids.contains(&id)) else {
            return;
        };
        let Missing { ids, since } = self.missing.remove(at);
        let rest = [ids.start..id, id + 1..ids.end];
        let rest = rest.into_iter().filter(|ids| !ids.is_empty());
        let rest = rest.map(|ids| Missing { ids, since });
        self.missing.splice(at..at, rest.collect::<Vec<_>>());
    }
}

impl Row {
    fn event(self) -> Option<WrittenEvent> {
        Some(WrittenEvent {
            outbox_id: self.id?,
            event_id: self.event_id?,
            aggregate_type: self.aggregate_type?,
            aggregate_id: self.aggregate_id?,
            event_type: self.event_type?,
            version: self.version,
            written_at: self.created_at?,
        })
    }
}

/// The newest events above `last_id`, and the lowest of those that were missing, in order. However
/// many there are, it reads no more than it returns. While no ids are drawn it reads no events at all.
async fn read(
    db: impl PgExecutor<'_>,
    last_id: i64,
    missing: &[Missing],
) -> sqlx::Result<Vec<Row>> {
    let missing: Vec<_> = (missing.iter())
        .map(|it| PgRange::from(it.ids.clone()))
        .collect();
    sqlx::query_file_as!(
        Row,
        "src/feed/written.sql",
        last_id,
        &missing,
        MAX_EVENTS as i64,
    )
    .fetch_all(db)
    .await
}

#[cfg(test)]
mod tests {
    use tokio::time::{self, Instant};

    use super::{LATE, MAX_EVENTS, MAX_MISSING, Place};

    fn pass(place: &mut Place, ids: impl IntoIterator<Item = i64>) -> u64 {
        let ids: Vec<_> = ids.into_iter().collect();
        place.pass(ids.into_iter(), Instant::now())
    }

    fn missing(place: &Place) -> Vec<(i64, i64)> {
        let missing = place.missing.iter();
        missing.map(|it| (it.ids.start, it.ids.end)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn ids_that_were_leapt_over_are_looked_for_until_they_are_found_or_it_is_too_late() {
        let mut place = Place::default();
        assert_eq!(pass(&mut place, [1, 2, 7]), 0);
        assert_eq!(missing(&place), [(3, 7)]);
        assert_eq!(pass(&mut place, [5, 9]), 0);
        assert_eq!(missing(&place), [(3, 5), (6, 7), (8, 9)]);
        time::advance(LATE / 2).await;
        pass(&mut place, [3, 11]);
        assert_eq!(missing(&place), [(4, 5), (6, 7), (8, 9), (10, 11)]);
        time::advance(LATE / 2).await;
        pass(&mut place, []);
        assert_eq!(missing(&place), [(10, 11)]);
        assert_eq!(place.last_id, 11);
    }

    #[tokio::test(start_paused = true)]
    async fn of_too_many_events_the_newest_are_passed_and_the_others_counted() {
        let mut place = Place::default();
        pass(&mut place, [1]);
        let newest = 1_000..1_000 + MAX_EVENTS as i64;
        assert_eq!(pass(&mut place, newest), 998);
        assert_eq!(missing(&place), []);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_looked_for_is_bounded() {
        let mut place = Place::default();
        for id in 0..2 * MAX_MISSING as i64 {
            pass(&mut place, [2 * id + 2]);
        }
        assert_eq!(place.missing.len(), MAX_MISSING);
    }
}
