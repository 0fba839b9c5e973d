//! What became of one event, from the ledger to its stream.

mod ledger;
mod on_stream;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use postgres_pool::Pool;
use tokio::{sync::Semaphore, time};
use uuid::Uuid;

use self::{
    ledger::{Delivery, Entry},
    on_stream::Outcome,
};
use crate::{nats_on_demand::NatsOnDemand, parked};

/// Events that are looked up at once: each lookup reads a part of the ledger and of a stream.
const MAX_LOOKUPS: usize = 2;
/// Who would have to wait longer for a turn is refused.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Half of an event's way: its consumers know the other half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journey {
    pub event_id: Uuid,
    /// Its place in the ledger.
    pub outbox_id: i64,
    pub aggregate_type: String,
    pub aggregate_id: String,
    pub event_type: String,
    /// The aggregate's own version, if it has one.
    pub version: Option<i64>,
    pub written_at: DateTime<Utc>,
    pub state: State,
    /// Where it is published, if a relay has ever had a route for it.
    pub stream: Option<String>,
    /// Where it stands on the stream.
    pub place: Option<StreamPlace>,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// In the ledger, and not yet published.
    Pending,
    /// On its stream.
    Published,
    /// Set aside, until an operator decides.
    Parked(Parking),
    /// Not published, because its aggregate was restated at a higher version.
    Superseded,
    /// The relay is done with it, and it was not found on its stream: it was discarded after it was
    /// parked, or has left the stream, or the stream could not be read far enough.
    Unknown,
}

/// Why it was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parking {
    pub reason: String,
    /// How often it was tried; 0 if it has no route.
    pub attempts: i32,
    pub parked_at: DateTime<Utc>,
}

/// Where a stream has it, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamPlace {
    pub sequence: u64,
    pub published_at: DateTime<Utc>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    #[error("too many events are looked up at once")]
    Busy,
    #[error(transparent)]
    Postgres(#[from] sqlx::Error),
}

/// Looks events up.
#[derive(Debug, Clone)]
pub struct Journeys {
    pool: Pool,
    nats: NatsOnDemand,
    lookups: Arc<Semaphore>,
}

impl Journeys {
    #[must_use]
    pub fn new(pool: Pool, nats: NatsOnDemand) -> Self {
        Self {
            pool,
            nats,
            lookups: Arc::new(Semaphore::new(MAX_LOOKUPS)),
        }
    }

    /// `None` if no such event is parked or found in the ledger, of which a bounded part is read:
    /// around the time that an id of version 7 tells, and the end.
    ///
    /// # Errors
    /// If Postgres can't be reached, or others are looking events up.
    pub async fn find(&self, event_id: Uuid) -> Result<Option<Journey>, LookupError> {
        let Ok(_turn) = time::timeout(MAX_WAIT, self.lookups.acquire()).await else {
            return Err(LookupError::Busy);
        };
        if let Some(summary) = parked::find_by_event_id(&self.pool, event_id).await? {
            return Ok(Some(Journey::parked(summary)));
        }
        let Some(entry) = ledger::find(&self.pool, event_id).await? else {
            return Ok(None);
        };
        let mut journey = self.follow(entry).await?;
        // One that was parked and retried stands in the ledger twice.
        if matches!(journey.state, State::Superseded | State::Unknown)
            && let Some(again) = ledger::find_after(&self.pool, journey.outbox_id, event_id).await?
        {
            journey = self.follow(again).await?;
        }
        // It may have been parked meanwhile.
        if journey.state == State::Unknown
            && let Some(summary) = parked::find_by_event_id(&self.pool, event_id).await?
        {
            journey = Journey::parked(summary);
        }
        Ok(Some(journey))
    }

    async fn follow(&self, entry: Entry) -> sqlx::Result<Journey> {
        let Some(delivery) = ledger::delivery(&self.pool, &entry).await? else {
            return Ok(Journey::new(entry, State::Pending, None, None));
        };
        let (state, place) = self.state(&entry, &delivery).await;
        Ok(Journey::new(entry, state, Some(delivery.stream), place))
    }

    /// What was published before its aggregate was restated was not superseded: the stream tells.
    async fn state(&self, entry: &Entry, delivery: &Delivery) -> (State, Option<StreamPlace>) {
        match delivery.is_done {
            false if delivery.is_superseded => (State::Superseded, None),
            false => (State::Pending, None),
            true => match on_stream::look_up(&self.nats, entry, delivery).await {
                Outcome::Found(place) => (State::Published, Some(place)),
                Outcome::Absent if delivery.is_superseded => (State::Superseded, None),
                Outcome::Absent | Outcome::Undecided => (State::Unknown, None),
            },
        }
    }
}

impl Journey {
    fn parked(summary: parked::Summary) -> Self {
        Self {
            event_id: summary.event_id,
            outbox_id: summary.id,
            aggregate_type: summary.aggregate_type,
            aggregate_id: summary.aggregate_id,
            event_type: summary.event_type,
            version: summary.version,
            written_at: summary.created_at,
            state: State::Parked(Parking {
                reason: summary.reason,
                attempts: summary.attempts,
                parked_at: summary.parked_at,
            }),
            stream: None,
            place: None,
        }
    }

    fn new(entry: Entry, state: State, stream: Option<String>, place: Option<StreamPlace>) -> Self {
        let Entry {
            id,
            event_id,
            aggregate_type,
            aggregate_id,
            event_type,
            version,
            created_at,
        } = entry;
        Self {
            event_id,
            outbox_id: id,
            aggregate_type,
            aggregate_id,
            event_type,
            version,
            written_at: created_at,
            state,
            stream,
            place,
        }
    }
}
