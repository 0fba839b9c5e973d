//! How the outbox is doing, looked up once a second.

use std::{collections::HashMap, convert::Infallible, time::Duration};

use chrono::{DateTime, Utc};
use futures::future::{join_all, try_join};
use postgres_pool::Pool;
use serde::Serialize;
use service_runtime::{nats::stream::StreamMetadata, progress::Progress};
use tokio::{
    sync::watch,
    time::{self, MissedTickBehavior},
};

use super::News;
use crate::{
    nats_on_demand::{NatsOnDemand, stream_info},
    status::{self, RelayStatus, StreamStatus},
};

const INTERVAL: Duration = Duration::from_secs(1);
/// Who takes longer is not available.
const POSTGRES_DEADLINE: Duration = Duration::from_secs(2);
/// Pending events are counted so far: each second, so it has to be cheap.
const MAX_PENDING: i64 = 10_000;

/// How the outbox is doing. While Postgres is not available, what it last said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    pub postgres: Availability,
    pub nats: Availability,
    /// `None` until Postgres has said it.
    pub relay: Option<RelayNow>,
    pub streams: Vec<StreamNow>,
    /// Events that were set aside.
    pub parked: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Availability {
    Ok,
    Unavailable,
}

/// The relay, wherever it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RelayNow {
    /// Whether one holds the lease.
    pub active: bool,
    /// Who holds it, or held it last.
    pub owner: Option<String>,
    /// Grows with every change of the owner.
    pub epoch: i64,
}

/// A stream that a relay publishes to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamNow {
    pub stream: String,
    /// Events that wait to be published, counted up to 10,001.
    pub pending: i64,
    /// When the oldest of them was written.
    pub oldest_pending_at: Option<DateTime<Utc>>,
    /// The last sequence that the relay has an acknowledgement of; 0 before the first.
    pub sequence: i64,
    /// Grows whenever the relay publishes anew what the stream has lost.
    pub incarnation: u64,
    /// Where the stream ends; `None` if it does not say.
    pub last_sequence: Option<u64>,
}

/// Asks Postgres and the streams.
pub(super) struct Observer<'a> {
    pool: &'a Pool,
    nats: &'a NatsOnDemand,
    /// The names of the streams, for whoever reads them; `None` until Postgres has said them.
    streams: watch::Sender<Option<Vec<String>>>,
    /// What Postgres said last.
    known: Option<(RelayStatus, Vec<StreamStatus>)>,
    /// By stream, as its metadata said last.
    incarnations: HashMap<String, u64>,
    /// What was said last of Postgres and NATS, to log changes.
    said: Option<(Availability, Availability)>,
}

impl<'a> Observer<'a> {
    pub(super) fn new(
        pool: &'a Pool,
        nats: &'a NatsOnDemand,
        streams: watch::Sender<Option<Vec<String>>>,
    ) -> Self {
        Self {
            pool,
            nats,
            streams,
            known: None,
            incarnations: HashMap::new(),
            said: None,
        }
    }

    pub(super) async fn follow(&mut self, progress: &Progress, tell: &impl Fn(News)) -> Infallible {
        let mut ticks = time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        loop {
            progress.succeeded();
            ticks.tick().await;
            tell(News::Status(self.observe().await));
        }
    }

    /// Within a few seconds, whoever answers.
    pub(super) async fn observe(&mut self) -> Status {
        let postgres = match self.ask_postgres().await {
            Ok(known) => {
                self.streams.send_if_modified(|names| {
                    let known = known.1.iter().map(|it| it.stream.clone());
                    let known = Some(known.collect());
                    let is_changed = *names != known;
                    *names = known;
                    is_changed
                });
                self.known = Some(known);
                Availability::Ok
            }
            Err(error) => {
                tracing::debug!(%error, "the status of the outbox could not be read");
                Availability::Unavailable
            }
        };
        let (nats, ends) = self.ask_streams().await;
        self.log_changes(postgres, nats);
        self.status(postgres, nats, &ends)
    }

    async fn ask_postgres(&self) -> sqlx::Result<(RelayStatus, Vec<StreamStatus>)> {
        let streams = status::streams(self.pool, MAX_PENDING + 1);
        let asking = try_join(status::relay(self.pool), streams);
        let answer = time::timeout(POSTGRES_DEADLINE, asking).await;
        answer.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// Where each stream ends. One that does not say, as one without a leader, keeps quiet for itself
    /// alone.
    async fn ask_streams(&mut self) -> (Availability, HashMap<String, u64>) {
        let names = self.streams.borrow().clone().unwrap_or_default();
        match self.nats.jetstream().await {
            Ok(jetstream) => {
                let asking = names.into_iter().map(async |name| {
                    let asked = stream_info(&jetstream, &name).await;
                    let info = asked.inspect_err(|error| {
                        let error = format!("{error:#}");
                        tracing::debug!(name, error, "a stream can't be asked");
                    });
                    Some((name, info.ok()??))
                });
                let infos: Vec<_> = join_all(asking).await.into_iter().flatten().collect();
                let incarnations = infos.iter().map(|(name, info)| {
                    let number = StreamMetadata::of(info).incarnations.number();
                    (name.clone(), number)
                });
                self.incarnations.extend(incarnations);
                let ends = infos.into_iter();
                let ends = ends.map(|(name, info)| (name, info.state.last_sequence));
                (Availability::Ok, ends.collect())
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::debug!(error, "the streams can't be asked");
                (Availability::Unavailable, HashMap::new())
            }
        }
    }

    fn status(
        &self,
        postgres: Availability,
        nats: Availability,
        ends: &HashMap<String, u64>,
    ) -> Status {
        let now = |stream: &StreamStatus| StreamNow {
            stream: stream.stream.clone(),
            pending: stream.pending,
            oldest_pending_at: stream.oldest_pending_at,
            sequence: stream.stream_sequence,
            incarnation: (self.incarnations.get(&stream.stream)).map_or(0, |number| *number),
            last_sequence: ends.get(&stream.stream).copied(),
        };
        let relay = self.known.as_ref().map(|(relay, _)| relay);
        let streams = self.known.iter().flat_map(|(_, streams)| streams);
        Status {
            postgres,
            nats,
            relay: relay.map(|relay| RelayNow {
                active: relay.is_active,
                owner: relay.owner.clone(),
                epoch: relay.epoch,
            }),
            streams: streams.map(now).collect(),
            parked: relay.map_or(0, |relay| relay.parked),
        }
    }

    fn log_changes(&mut self, postgres: Availability, nats: Availability) {
        let said = self.said.replace((postgres, nats));
        let (before_postgres, before_nats) = said.unwrap_or((Availability::Ok, Availability::Ok));
        for (server, before, now) in [
            ("Postgres", before_postgres, postgres),
            ("NATS", before_nats, nats),
        ] {
            match now {
                _ if now == before => {}
                Availability::Ok => tracing::info!(server, "the feed of the outbox goes on"),
                Availability::Unavailable => {
                    tracing::warn!(server, "the feed of the outbox lacks a server");
                }
            }
        }
    }
}
