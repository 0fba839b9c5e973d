//! The source of the feed: looks ten times a second what was handled, and once a second how things
//! stand, while somebody follows.

use std::time::Duration;

use chrono::{DateTime, Utc};
use event_consumer::{Connection, Holes, Lag};
use serde::Serialize;
use service_runtime::{health::Check, http::Feed, nats::ConsumerName, progress::Progress};
use tokio::time::{self, Interval, MissedTickBehavior};

use super::{RecentEvents, api::Watched};
use crate::{projection::MongoPositionStore, verification::Known};

const EVENTS_INTERVAL: Duration = Duration::from_millis(100);
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
/// Events that are told of at once; others are only counted.
const MAX_EVENTS: usize = 100;

/// What is asked for the status.
pub(crate) struct Figures {
    pub(crate) consumer: ConsumerName,
    pub(crate) connection: Connection,
    pub(crate) lag: Lag,
    pub(crate) holes: Holes<MongoPositionStore>,
    pub(crate) verification: Known,
    /// Of MongoDB.
    pub(crate) ping: Check,
}

pub(crate) struct Source {
    pub(crate) feed: Feed,
    pub(crate) recent: RecentEvents,
    pub(crate) figures: Figures,
}

#[derive(Serialize)]
struct Status<'a> {
    #[serde(rename = "mongodb")]
    database: Availability,
    nats: Availability,
    consumer: &'a str,
    lag_ms: Option<u64>,
    pending: Option<u64>,
    unacknowledged: Option<u64>,
    redelivered: Option<u64>,
    ack_floor: Option<u64>,
    holes: Option<usize>,
    dead_letters: Option<u64>,
    last_verified_at: Option<DateTime<Utc>>,
    differences: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Availability {
    Ok,
    Unavailable,
}

impl Source {
    /// For the handlers of requests.
    pub(crate) fn watched(&self) -> Watched {
        Watched {
            feed: self.feed.clone(),
            recent: self.recent.clone(),
        }
    }

    /// Feeds the followers until shutdown.
    ///
    /// # Errors
    /// Never: it has the form of a task.
    pub(crate) async fn run(self, progress: Progress) -> anyhow::Result<()> {
        while self.feed.is_wanted(&progress).await {
            tokio::select! {
                () = self.feed.unwanted() => {}
                () = self.tell_events(&progress) => {}
                () = self.tell_status() => {}
            }
            self.feed.forget_status();
        }
        Ok(())
    }

    async fn tell_events(&self, progress: &Progress) {
        let mut ticks = ticks(EVENTS_INTERVAL);
        let mut told = self.recent.count();
        loop {
            ticks.tick().await;
            progress.attempted();
            let (events, skipped) = self.recent.after(&mut told, MAX_EVENTS);
            if !events.is_empty() {
                self.feed.batch("applied", &events, skipped);
            }
        }
    }

    async fn tell_status(&self) {
        let mut ticks = ticks(STATUS_INTERVAL);
        loop {
            ticks.tick().await;
            self.feed.status(&self.figures.status().await);
        }
    }
}

impl Figures {
    async fn status(&self) -> Status<'_> {
        let answered = self.ping.run().await;
        let (lag, backlog) = (self.lag.current(), self.lag.backlog());
        let verified = self.verification.sample();
        Status {
            database: Availability::of(answered.is_ok()),
            // The server must have answered lately: a connection may be silent.
            nats: Availability::of(self.connection.is_open() && backlog.is_some()),
            consumer: self.consumer.as_str(),
            lag_ms: lag.map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
            pending: backlog.map(|it| it.pending),
            unacknowledged: backlog.map(|it| it.unacknowledged),
            redelivered: backlog.map(|it| it.redelivered),
            ack_floor: backlog.map(|it| it.ack_floor),
            holes: self.holes.open(),
            dead_letters: backlog.and_then(|it| it.dead_letters),
            last_verified_at: verified.and_then(|it| it.last_began_at),
            differences: verified.and_then(|it| it.differences),
        }
    }
}

impl Availability {
    fn of(is_available: bool) -> Self {
        match is_available {
            true => Self::Ok,
            false => Self::Unavailable,
        }
    }
}

fn ticks(interval: Duration) -> Interval {
    let mut ticks = time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
