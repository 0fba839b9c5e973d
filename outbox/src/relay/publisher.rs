//! Publishing what the reader finds, and moving the cursor behind the acknowledgements.

use std::{ops::Range, time::Duration};

use async_nats::jetstream::{
    Context,
    context::{PublishAckFuture, PublishError},
    publish::PublishAck,
};
use futures::{StreamExt, TryFutureExt, future::BoxFuture, stream::FuturesOrdered};
use postgres_pool::Pool;
use service_runtime::nats::Topic;
use service_runtime::progress::Progress;
use tokio::{sync::mpsc, time::Instant};
use uuid::Uuid;

use super::{
    ACK_TIMEOUT,
    backlog::Backlog,
    cursor::{self, Cursor, Tail},
    failure::{Failure, within},
    lease::Lease,
    message,
    reader::Step,
};
use crate::ledger::OutboxEvent;

/// The cursor is saved when so many events were acknowledged since, or after this time. Either
/// bounds what is published a second time after a crash.
const SAVE_EVENTS: usize = 1000;
const SAVE_INTERVAL: Duration = Duration::from_millis(20);
/// Events held for users who have one in flight. With this many, reading pauses.
const MOST_HELD: usize = 4000;
/// How far apart the places are to come back to, if the stream loses its end.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(10);

pub(super) struct Publisher<'a> {
    pool: &'a Pool,
    jetstream: &'a Context,
    topic: &'a Topic,
    lease: &'a Lease,
    max_in_flight: usize,
    /// What is acknowledged.
    cursor: Cursor,
    /// Events acknowledged, or ids closed, since the cursor was last saved.
    unsaved: usize,
    saved_at: Instant,
    checkpoint_at: Instant,
    backlog: Backlog,
    progress: &'a Progress,
}

/// A step that was begun, and how to learn its end.
enum Begun {
    Published(Published, PublishAckFuture),
    Closed(Range<i64>),
}

enum Ended {
    Published(Published, Result<PublishAck, PublishError>),
    Closed(Range<i64>),
}

struct Published {
    id: i64,
    event_id: Uuid,
    user_id: i64,
}

impl<'a> Publisher<'a> {
    pub(super) fn new(
        pool: &'a Pool,
        jetstream: &'a Context,
        topic: &'a Topic,
        lease: &'a Lease,
        max_in_flight: usize,
        cursor: Cursor,
        progress: &'a Progress,
    ) -> Self {
        let now = Instant::now();
        Self {
            pool,
            jetstream,
            topic,
            lease,
            max_in_flight,
            cursor,
            unsaved: 0,
            saved_at: now,
            checkpoint_at: now,
            backlog: Backlog::default(),
            progress,
        }
    }

    /// Does the steps in their order until there are no more or one fails; then waits for the
    /// acknowledgements that are due and saves the cursor.
    pub(super) async fn run(mut self, mut steps: mpsc::Receiver<Vec<Step>>) -> Result<(), Failure> {
        let mut in_flight = FuturesOrdered::new();
        let mut saving: Option<BoxFuture<'_, Result<(), Failure>>> = None;
        let mut outcome = Ok(());
        let mut reading = true;
        loop {
            while outcome.is_ok()
                && in_flight.len() < self.max_in_flight
                && let Some(step) = self.backlog.take_ready()
            {
                match self.begin(step).await {
                    Ok(begun) => in_flight.push_back(end(begun)),
                    Err(failure) => outcome = Err(failure),
                }
            }
            if saving.is_none() && self.is_save_due() {
                saving = Some(self.begin_save());
            }
            let done = outcome.is_err() || (self.backlog.is_empty() && !reading);
            if done && in_flight.is_empty() && saving.is_none() {
                break;
            }
            tokio::select! {
                biased;
                Some(ended) = in_flight.next() => {
                    if let Err(failure) = self.settle(ended) {
                        outcome = outcome.and(Err(failure));
                    }
                }
                Some(saved) = async { Some(saving.as_mut()?.await) } => {
                    saving = None;
                    saved?;
                    self.progress.succeeded();
                }
                received = steps.recv(), if reading && self.backlog.has_room(MOST_HELD) && outcome.is_ok() => {
                    match received {
                        Some(steps) => {
                            self.backlog.extend(steps);
                            if self.backlog.is_empty() && in_flight.is_empty() {
                                // There was nothing to read, and all is published.
                                self.progress.succeeded();
                            }
                        }
                        None => reading = false,
                    }
                }
                () = tokio::time::sleep_until(self.saved_at + SAVE_INTERVAL),
                    if self.unsaved > 0 && saving.is_none() => {}
            }
        }
        if self.unsaved > 0 {
            cursor::save(self.pool, self.lease, &self.cursor).await?;
        }
        outcome
    }

    async fn begin(&mut self, step: Step) -> Result<Begun, Failure> {
        match step {
            Step::Publish(event) => self.publish(&event).await,
            Step::Close(ids) => Ok(Begun::Closed(ids)),
        }
    }

    async fn publish(&mut self, event: &OutboxEvent) -> Result<Begun, Failure> {
        let headers = message::headers(event, self.topic);
        let body = message::body(event).into();
        let subject = self.topic.subject.clone();
        let sending = self.jetstream.publish_with_headers(subject, headers, body);
        let sending = sending.map_err(|error| Failure::of_publish(event.id, error));
        let ack = within(ACK_TIMEOUT, sending).await?;
        let published = Published {
            id: event.id,
            event_id: event.event_id,
            user_id: event.user_id,
        };
        Ok(Begun::Published(published, ack))
    }

    /// An event that failed stays in flight as far as its user goes: nothing may overtake it.
    fn settle(&mut self, ended: Ended) -> Result<(), Failure> {
        match ended {
            Ended::Closed(ids) => self.cursor.position.close(ids),
            Ended::Published(event, Err(error)) => {
                return Err(Failure::of_publish(event.id, error));
            }
            Ended::Published(event, Ok(ack)) => {
                self.extend_tail(&event, &ack)?;
                self.cursor.pass(event.id, event.event_id);
                self.backlog.done(event.user_id);
            }
        }
        self.unsaved += 1;
        Ok(())
    }

    /// Keeps the tail at the greatest sequence of all events that the cursor has passed.
    ///
    /// A duplicate is as much on the stream as a new event, at the sequence that it got the first
    /// time. That may be below the tail: it was read again after a crash, or another relay published
    /// it. A new event comes last: acknowledgements are handled in the order in which the events
    /// were sent, so one that is not above the tail shows that the stream was replaced or has lost
    /// its end.
    fn extend_tail(&mut self, event: &Published, ack: &PublishAck) -> Result<(), Failure> {
        let sequence = i64::try_from(ack.sequence).map_err(|_| Failure::StreamChanged)?;
        if sequence > self.cursor.tail.sequence {
            self.cursor.tail = Tail {
                sequence,
                event_id: Some(event.event_id),
            };
        } else if !ack.duplicate {
            return Err(Failure::StreamChanged);
        }
        Ok(())
    }

    fn is_save_due(&self) -> bool {
        self.unsaved >= SAVE_EVENTS
            || (self.unsaved > 0 && self.saved_at.elapsed() >= SAVE_INTERVAL)
    }

    fn begin_save(&mut self) -> BoxFuture<'a, Result<(), Failure>> {
        let now = Instant::now();
        let is_checkpoint = now >= self.checkpoint_at && self.cursor.tail.event_id.is_some();
        if is_checkpoint {
            self.checkpoint_at = now + CHECKPOINT_INTERVAL;
        }
        self.saved_at = now;
        self.unsaved = 0;
        let (pool, lease, cursor) = (self.pool, self.lease, self.cursor.clone());
        Box::pin(async move {
            cursor::save(pool, lease, &cursor).await?;
            if is_checkpoint {
                cursor::save_checkpoint(pool, &cursor).await?;
            }
            Ok(())
        })
    }
}

async fn end(begun: Begun) -> Ended {
    match begun {
        Begun::Published(published, ack) => Ended::Published(published, ack.await),
        Begun::Closed(ids) => Ended::Closed(ids),
    }
}
