//! Reading what is new on the streams.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use async_nats::jetstream::consumer::DeliverPolicy;
use backon::BackoffBuilder;
use chrono::{DateTime, Utc};
use futures::future::join_all;
use serde::Serialize;
use service_runtime::{
    backoff,
    nats::headers::{CE_TIME, REPLAY_OF},
};
use tokio::{
    sync::watch,
    time::{self, MissedTickBehavior},
};
use uuid::Uuid;

use self::place::Place;
use super::{Batch, MAX_EVENTS, News, TICK};
use crate::{
    header_reader::{HeaderReader, Received},
    nats_on_demand::{NatsOnDemand, stream_info},
    said,
};

mod place;

/// Messages that are read in one tick at most.
const MAX_READ: u64 = 500;
/// A reader with more before it leaps over them, no more often than once in this time.
const MAX_PENDING: u64 = 5_000;
const LEAP_INTERVAL: Duration = Duration::from_secs(1);

/// An event on a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublishedEvent {
    pub event_id: Uuid,
    /// Its place in the ledger, if the message says it.
    pub outbox_id: Option<i64>,
    pub aggregate_type: Option<String>,
    pub aggregate_id: String,
    pub version: Option<i64>,
    pub stream: String,
    pub sequence: u64,
    pub written_at: Option<DateTime<Utc>>,
    pub published_at: DateTime<Utc>,
}

/// Readers of all streams.
pub(super) struct Published<'a> {
    nats: &'a NatsOnDemand,
    /// `None` until they are known.
    streams: watch::Receiver<Option<Vec<String>>>,
    /// Whether they were known before.
    is_listed: bool,
    readers: Vec<StreamReader<'a>>,
}

/// Reads one stream, with as many consumers as it takes, one after the other.
struct StreamReader<'a> {
    nats: &'a NatsOnDemand,
    stream: String,
    place: Place,
    /// The first one, once it is open.
    reader: Option<HeaderReader>,
}

impl<'a> Published<'a> {
    pub(super) fn new(
        nats: &'a NatsOnDemand,
        streams: watch::Receiver<Option<Vec<String>>>,
    ) -> Self {
        Self {
            nats,
            streams,
            is_listed: false,
            readers: vec![],
        }
    }

    /// Whatever the streams store from now on is news; without NATS, what they have once it is there.
    pub(super) async fn begin(&mut self) {
        self.know_streams();
        let opening = self
            .readers
            .iter_mut()
            .map(async |reader| match reader.open().await {
                Ok(opened) => reader.reader = Some(opened),
                Err(error) => reader.log(&error),
            });
        join_all(opening).await;
    }

    pub(super) async fn follow(&mut self, tell: &impl Fn(News)) -> Infallible {
        loop {
            let reading = self.readers.iter_mut().map(|reader| reader.follow(tell));
            let reading = async {
                join_all(reading).await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = reading => {}
                changed = self.streams.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
            }
            self.know_streams();
        }
    }

    /// A stream that comes later is new, and so is all that it has.
    fn know_streams(&mut self) {
        let Some(names) = self.streams.borrow_and_update().clone() else {
            return;
        };
        let place_of_new = match std::mem::replace(&mut self.is_listed, true) {
            true => Place::at_the_beginning(),
            false => Place::at_the_end(),
        };
        self.readers.retain(|it| names.contains(&it.stream));
        for stream in names {
            if self.readers.iter().all(|it| it.stream != stream) {
                self.readers.push(StreamReader {
                    nats: self.nats,
                    stream,
                    place: place_of_new.clone(),
                    reader: None,
                });
            }
        }
    }
}

impl StreamReader<'_> {
    async fn follow(&mut self, tell: &impl Fn(News)) -> Infallible {
        let mut delays = backoff::unbounded().build();
        loop {
            let known = self.place.clone();
            let Err(error) = self.read(tell).await;
            self.log(&error);
            if self.place != known {
                delays = backoff::unbounded().build();
            }
            time::sleep(delays.next().unwrap_or_default()).await;
        }
    }

    /// The status says whether NATS is there, and the log once.
    fn log(&self, error: &anyhow::Error) {
        let (stream, error) = (&self.stream, format!("{error:#}"));
        tracing::debug!(stream, error, "the stream can't be read");
    }

    async fn open(&mut self) -> anyhow::Result<HeaderReader> {
        let jetstream = self.nats.jetstream().await?;
        let Some(info) = stream_info(&jetstream, &self.stream).await? else {
            self.place = Place::at_the_beginning();
            anyhow::bail!("there is no such stream");
        };
        let start_sequence = self.place.start(&info);
        let start = DeliverPolicy::ByStartSequence { start_sequence };
        HeaderReader::open(&jetstream, &self.stream, start).await
    }

    /// Until something fails.
    async fn read(&mut self, tell: &impl Fn(News)) -> anyhow::Result<Infallible> {
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => self.open().await?,
        };
        let mut newest = VecDeque::with_capacity(MAX_EVENTS);
        let mut opened_at = time::Instant::now();
        let mut pending = 0;
        let mut ticks = time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                received = reader.next() => {
                    let received = received?;
                    self.place.seen(received.sequence);
                    pending = received.pending;
                    if newest.len() == MAX_EVENTS {
                        newest.pop_front();
                        self.place.skip(1);
                    }
                    newest.push_back(received);
                }
                _ = ticks.tick() => {
                    let received: Vec<_> = newest.drain(..).collect();
                    self.tell(received, tell);
                    if pending > MAX_PENDING && opened_at.elapsed() > LEAP_INTERVAL {
                        (pending, opened_at) = (0, time::Instant::now());
                        reader = self.open().await?;
                    } else {
                        reader.ask(MAX_READ).await?;
                    }
                }
            }
        }
    }

    /// What is no event, and what is published again for one consumer, is no news.
    fn tell(&mut self, received: Vec<Received>, tell: &impl Fn(News)) {
        let is_news = |it: &Received| it.headers.get(REPLAY_OF).is_none();
        let events: Vec<_> = (received.into_iter().filter(is_news))
            .filter_map(|it| event(&self.stream, &it))
            .collect();
        if !events.is_empty() {
            let skipped = self.place.take_skipped();
            tell(News::Published(Batch { events, skipped }));
        }
    }
}

fn event(stream: &str, received: &Received) -> Option<PublishedEvent> {
    let said = said::read(&received.headers).ok()?;
    let written_at = received.headers.get(CE_TIME);
    let written_at = written_at.and_then(|it| DateTime::parse_from_rfc3339(it.as_str()).ok());
    Some(PublishedEvent {
        event_id: said.event_id,
        outbox_id: said.id,
        aggregate_type: said.aggregate_type,
        aggregate_id: said.aggregate_id,
        version: said.version,
        stream: stream.to_owned(),
        sequence: received.sequence,
        written_at: written_at.map(|it| it.to_utc()),
        published_at: received.published_at,
    })
}
