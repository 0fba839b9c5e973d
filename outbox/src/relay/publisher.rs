//! Publishing what the reader finds, and moving the cursor behind the acknowledgements.

mod begun;

use std::time::Duration;

use async_nats::jetstream::{Context, publish::PublishAck};
use futures::{StreamExt, TryFutureExt, future::BoxFuture, stream::FuturesOrdered};
use postgres_pool::Pool;
use service_runtime::nats::{Topic, headers::MESSAGE_ID};
use tokio::{sync::mpsc, time::Instant};
use uuid::Uuid;

use self::begun::{Begun, Finished, Published, finish};
use super::{
    ACK_TIMEOUT,
    cursor::{self, Cursor, Tail},
    decisions,
    failure::{Failure, within},
    message,
    orphans::{self, LookedUp, Lookup},
    owned::Owned,
    parking,
    per_key_queue::PerKeyQueue,
    send_span::SendSpan,
    stream_loss::Losses,
    stream_progress::StreamProgress,
    task::{Publication, Task},
};

/// The cursor is saved when so many events were acknowledged since, or after this time. Either
/// bounds what is published a second time after a crash.
const SAVE_EVENTS: usize = 1000;
const SAVE_INTERVAL: Duration = Duration::from_millis(20);
/// Events held for aggregates that have one in flight. With this many, reading pauses.
const MOST_HELD: usize = 4000;
/// Of payloads that are queued or in flight. With this much, reading pauses: what is sent has to arrive before
/// its acknowledgement is overdue.
const MOST_BYTES: usize = 8 << 20;
/// How far apart the places are to come back to, if the stream loses its end.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(10);

/// Where a publisher publishes, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Destination<'a> {
    pub(super) jetstream: &'a Context,
    pub(super) topic: &'a Topic,
    /// `ce-source`
    pub(super) source: &'a str,
    pub(super) max_in_flight: usize,
}

pub(super) struct Publisher<'a> {
    pool: &'a Pool,
    to: Destination<'a>,
    owned: &'a Owned,
    /// What is done.
    cursor: Cursor,
    /// Events done, or ids abandoned, since the cursor was last saved.
    unsaved: usize,
    saved_at: Instant,
    checkpoint_at: Instant,
    queue: PerKeyQueue,
    losses: Losses,
    progress: &'a StreamProgress,
    lookup: Lookup<'a>,
    looked_up: &'a LookedUp,
}

impl<'a> Publisher<'a> {
    pub(super) fn new(
        pool: &'a Pool,
        to: Destination<'a>,
        owned: &'a Owned,
        cursor: Cursor,
        losses: Losses,
        progress: &'a StreamProgress,
        (lookup, looked_up): (Lookup<'a>, &'a LookedUp),
    ) -> Self {
        let now = Instant::now();
        Self {
            pool,
            to,
            owned,
            cursor,
            unsaved: 0,
            saved_at: now,
            checkpoint_at: now,
            queue: PerKeyQueue::default(),
            losses,
            progress,
            lookup,
            looked_up,
        }
    }

    /// Does the tasks in their order until there are no more or one fails; then waits for the
    /// acknowledgements of those before it and saves the cursor.
    pub(super) async fn run(mut self, mut tasks: mpsc::Receiver<Vec<Task>>) -> Result<(), Failure> {
        let mut in_flight = FuturesOrdered::new();
        let mut saving: Option<BoxFuture<'_, Result<(), Failure>>> = None;
        let mut looking: Option<BoxFuture<'_, Result<(), Failure>>> = None;
        let mut result = Ok(());
        let mut reading = true;
        loop {
            if looking.is_none() && result.is_ok() && self.has_strangers() {
                looking = Some(self.begin_look());
            }
            while result.is_ok()
                && looking.is_none()
                && in_flight.len() < self.to.max_in_flight
                && let Some(task) = self.queue.take_ready()
            {
                match self.begin(task).await {
                    Ok(begun) => in_flight.push_back(finish(begun)),
                    Err(failure) => result = Err(failure),
                }
            }
            let count = u32::try_from(in_flight.len()).unwrap_or(u32::MAX);
            self.lookup.metrics.in_flight.set(count);
            if saving.is_none() && !self.has_strangers() && self.is_save_due() {
                saving = Some(self.begin_save());
            }
            let done = result.is_err() || (self.queue.is_empty() && !reading);
            if done && in_flight.is_empty() && saving.is_none() && looking.is_none() {
                break;
            }
            tokio::select! {
                biased;
                // Before acknowledgements, which may be ready again and again.
                Some(saved) = async { Some(saving.as_mut()?.await) } => {
                    saving = None;
                    saved?;
                    self.progress.succeeded();
                }
                Some(looked) = async { Some(looking.as_mut()?.await) } => {
                    looking = None;
                    result = result.and(looked);
                }
                Some(finished) = in_flight.next() => {
                    match self.conclude(finished).await {
                        Ok(None) => {}
                        Ok(Some(again)) => in_flight.push_back(finish(again)),
                        Err(failure) => {
                            // What was sent after it may lie on a stream that has lost the tail: its
                            // sequences say nothing of what is below.
                            in_flight.clear();
                            result = result.and(Err(failure));
                        }
                    }
                }
                received = tasks.recv(), if reading && self.queue.has_room(MOST_HELD, MOST_BYTES) && result.is_ok() => {
                    match received {
                        Some(tasks) => {
                            self.queue.extend(tasks);
                            if self.queue.is_empty() && in_flight.is_empty() {
                                // There was nothing to read, and all is published.
                                self.progress.succeeded();
                            }
                        }
                        None => reading = false,
                    }
                }
                () = tokio::time::sleep_until(self.saved_at + SAVE_INTERVAL),
                    if self.unsaved > 0
                        && saving.is_none()
                        && looking.is_none()
                        && !self.has_strangers() => {}
            }
        }
        self.lookup.metrics.in_flight.set(0);
        if self.unsaved > 0 && !self.has_strangers() {
            save(self.pool, self.owned, &self.cursor).await?;
        }
        result
    }

    async fn begin(&mut self, task: Task) -> Result<Begun<'a>, Failure> {
        Ok(match task {
            Task::Publish(event) => self.publish(event, None).await?,
            Task::Park(events) => {
                let ids: Vec<_> = events.iter().map(|(id, _)| *id).collect();
                let (pool, owned) = (self.pool, self.owned);
                let parking =
                    Box::pin(async move { parking::park_unrouted(pool, owned, &ids).await });
                Begun::Parking(events, parking)
            }
            Task::Skip(ids, last_event_id) => Begun::Skipped(ids, last_event_id),
            Task::Supersede(id, event_id) => Begun::Superseded(id, event_id),
            Task::AbandonGap(ids) => Begun::Abandoned(ids),
        })
    }

    /// Under its own id, unless another one is given.
    async fn publish(
        &mut self,
        event: Publication,
        message_id: Option<String>,
    ) -> Result<Begun<'a>, Failure> {
        let entry = &event.entry;
        decisions::sent(self.owned, entry, message_id.is_some());
        let headers = message::headers(entry, self.to.topic, self.to.source);
        let mut headers = headers.map_err(|reason| Failure::Refused {
            id: entry.id,
            reason,
        })?;
        if let Some(message_id) = message_id {
            headers.insert(MESSAGE_ID, message_id);
        }
        let body = message::body(entry);
        let span = SendSpan::start(&headers, self.to.topic, body.len());
        let subject = self.to.topic.subject.clone();
        let sending = (self.to.jetstream).publish_with_headers(subject, headers, body.into());
        let sending = sending.map_err(|error| Failure::of_publish(entry.id, error));
        let sent_at = Instant::now();
        let ack = within(ACK_TIMEOUT, sending).await;
        let ack = ack.inspect_err(|_| self.lookup.metrics.publish_failures.increment(1))?;
        let published = Published {
            sent_at,
            event: Box::new(event),
            span,
        };
        Ok(Begun::Published(published, ack))
    }

    /// An event that failed stays in flight as far as its aggregate goes: nothing may overtake it.
    /// One that the stream takes for a duplicate of a message that it has lost, or might lose unnoticed, is
    /// published again.
    async fn conclude(&mut self, finished: Finished) -> Result<Option<Begun<'a>>, Failure> {
        match finished {
            Finished::Abandoned(ids) => {
                decisions::passed(self.owned, "gap_abandoned", &ids);
                self.cursor.position.abandon(ids);
            }
            Finished::Skipped(ids, last_event_id) => {
                decisions::passed(self.owned, "skipped", &ids);
                self.cursor.pass(ids, last_event_id);
            }
            Finished::Superseded(id, event_id) => {
                self.lookup.metrics.superseded.increment(1);
                decisions::passed(self.owned, "superseded", &(id..id + 1));
                self.cursor.pass(id..id + 1, event_id);
            }
            Finished::Parked(events, is_held) => {
                if !is_held? {
                    return Err(Failure::SessionOver);
                }
                let metrics = self.lookup.metrics;
                metrics.parked.increment(events.len() as u64);
                for (id, event_id) in events {
                    decisions::passed(self.owned, "parked", &(id..id + 1));
                    self.cursor.pass(id..id + 1, event_id);
                }
            }
            Finished::Published(published, Err(error)) => {
                self.lookup.metrics.publish_failures.increment(1);
                return Err(Failure::of_publish(published.event.entry.id, error));
            }
            Finished::Published(published, Ok(ack)) => {
                let Published { sent_at, event, .. } = published;
                let (id, event_id) = (event.entry.id, event.entry.event_id);
                if ack.duplicate
                    && let Some(message_id) = self.losses.new_message_id(event_id, ack.sequence)
                {
                    return self.publish(*event, Some(message_id)).await.map(Some);
                }
                let metrics = self.lookup.metrics;
                let written_at = event.entry.created_at;
                metrics.acknowledged(sent_at.into_std(), written_at, ack.duplicate);
                self.extend_tail(event_id, &ack)?;
                self.note_sequence(ack.sequence);
                decisions::acknowledged(self.owned, id, &ack);
                self.cursor.pass(id..id + 1, event_id);
                self.queue.done(&event);
            }
        }
        self.unsaved += 1;
        Ok(None)
    }

    /// Keeps the tail at the greatest sequence of all events that the cursor has passed.
    ///
    /// A duplicate is as much on the stream as a new event, at the sequence that it got the first
    /// time. That may be below the tail: it was read again after a crash, or another relay published
    /// it. A new event comes last: acknowledgements are handled in the order in which the events
    /// were sent, so one that is not above the tail shows that the stream was replaced or has lost
    /// its end.
    fn extend_tail(&mut self, event_id: Uuid, ack: &PublishAck) -> Result<(), Failure> {
        let sequence = i64::try_from(ack.sequence).map_err(|_| Failure::StreamChanged)?;
        if sequence > self.cursor.tail.sequence {
            self.cursor.tail = Tail {
                sequence,
                event_id: Some(event_id),
            };
        } else if !ack.duplicate {
            return Err(Failure::StreamChanged);
        }
        Ok(())
    }

    /// An acknowledgement that follows on what is known leaves no room for messages of others.
    fn note_sequence(&self, sequence: u64) {
        if sequence == self.looked_up.get() + 1 {
            self.looked_up.raise(sequence);
        }
    }

    /// Whether others have published below the tail. It is not saved before their messages have been
    /// looked up.
    fn has_strangers(&self) -> bool {
        self.tail_sequence() > self.looked_up.get()
    }

    fn tail_sequence(&self) -> u64 {
        u64::try_from(self.cursor.tail.sequence).unwrap_or(0)
    }

    fn begin_look(&self) -> BoxFuture<'a, Result<(), Failure>> {
        let (lookup, looked_up) = (self.lookup, self.looked_up);
        let (from, to) = (looked_up.get(), self.tail_sequence());
        Box::pin(async move {
            orphans::look_up_strangers(lookup, from, to).await?;
            looked_up.raise(to);
            Ok(())
        })
    }

    fn is_save_due(&self) -> bool {
        self.unsaved >= SAVE_EVENTS
            || (self.unsaved > 0 && self.saved_at.elapsed() >= SAVE_INTERVAL)
    }

    fn begin_save(&mut self) -> BoxFuture<'a, Result<(), Failure>> {
        let now = Instant::now();
        let is_checkpoint = now >= self.checkpoint_at
            && self.cursor.tail.event_id.is_some()
            && cursor::is_exact(&self.cursor);
        if is_checkpoint {
            self.checkpoint_at = now + CHECKPOINT_INTERVAL;
            self.losses.checkpoint(self.cursor.tail.sequence);
        }
        self.saved_at = now;
        self.unsaved = 0;
        let (pool, owned, cursor) = (self.pool, self.owned, self.cursor.clone());
        Box::pin(async move {
            save(pool, owned, &cursor).await?;
            if is_checkpoint {
                cursor::save_checkpoint(pool, owned, &cursor).await?;
            }
            Ok(())
        })
    }
}

async fn save(pool: &Pool, owned: &Owned, cursor: &Cursor) -> Result<(), Failure> {
    cursor::save(pool, owned, cursor).await?;
    decisions::cursor_saved(owned, cursor);
    Ok(())
}
