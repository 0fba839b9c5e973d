//! Waking the readers when there is something for them: as soon as a producer in this process says
//! so, and for all others by waiting within Postgres, where a commit is seen within milliseconds and
//! producers need send nothing. One statement waits for all streams.

use std::{
    convert::Infallible,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use postgres_pool::Pool;
use sqlx::postgres::types::PgRange;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};

use super::position::Position;
use crate::wake::Written;

/// How long one statement waits. Its snapshots keep Postgres from cleaning up for as long; and what
/// takes a second is logged as slow.
const WAIT: Duration = Duration::from_millis(900);
/// Behind a pooler of transactions no statement waits: it would keep a connection to the server from
/// others. It only looks, so often.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Before the next statement, if the answer to the last one was of no use: the readers had already
/// read on. Producers in this process wake them, so nothing waits for that statement.
const PAUSE: Duration = Duration::from_millis(8);
/// For readers that were woken to go on.
const GO_ON: Duration = Duration::from_millis(1);
/// After so long `outbox.wait_for_event` makes its longest pauses.
const LONG_SILENCE: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_secs(1);
/// More gaps than these are left to polling: to look them up takes too long.
const MAX_GAPS: usize = 1000;

/// Where readers wait that have read all that there is.
#[derive(Debug)]
pub(super) struct Waiter {
    state: Mutex<State>,
    /// A reader has begun to wait.
    joined: Notify,
    wake: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    /// By stream: how far those have read that wait.
    waiting: Vec<Option<Seen>>,
    /// The id above which the statement looks that runs.
    asked_above: Option<i64>,
    /// When waiting within Postgres last woke a reader; `None` if a producer in this process has
    /// since: then nothing is gained by looking often.
    woken_at: Option<Instant>,
}

/// How far a reader has read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    last_id: i64,
    gaps: Vec<Range<i64>>,
}

/// A reader is counted as waiting for as long as this lives.
struct Place<'a> {
    waiter: &'a Waiter,
    stream: usize,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiter.state().waiting[self.stream] = None;
    }
}

impl Waiter {
    pub(super) fn new(streams: usize) -> Self {
        let state = State {
            waiting: vec![None; streams],
            ..State::default()
        };
        Self {
            state: Mutex::new(state),
            joined: Notify::new(),
            wake: watch::Sender::new(()),
        }
    }

    /// For a reader, to be had before it reads: what is written later wakes it.
    pub(super) fn subscribe(&self) -> watch::Receiver<()> {
        self.wake.subscribe()
    }

    /// Until there may be more than what was read.
    pub(super) async fn wait(
        &self,
        stream: usize,
        read: &Position,
        wake: &mut watch::Receiver<()>,
    ) {
        let last_id = read.last_id();
        let gaps: Vec<_> = read.gaps().take(MAX_GAPS + 1).collect();
        let gaps = if gaps.len() > MAX_GAPS { vec![] } else { gaps };
        let _place = {
            let mut state = self.state();
            if state.asked_above.is_some_and(|asked| asked > last_id) {
                // Another reader is ahead: so there is more.
                return;
            }
            state.waiting[stream] = Some(Seen { last_id, gaps });
            Place {
                waiter: self,
                stream,
            }
        };
        self.joined.notify_one();
        if wake.changed().await.is_err() {
            // The relay is on its way down.
            std::future::pending::<()>().await;
        }
    }

    /// Wakes the readers, for as long as it runs.
    pub(super) async fn run(&self, pool: &Pool, written: &Written) -> Infallible {
        let here = async {
            loop {
                written.raised().await;
                self.state().woken_at = None;
                self.wake.send_replace(());
            }
        };
        tokio::select! {
            never = here => never,
            never = self.ask_postgres(pool) => never,
        }
    }

    async fn ask_postgres(&self, pool: &Pool) -> Infallible {
        let mut asked: Option<Seen> = None;
        loop {
            let Some(seen) = self.seen_by_all() else {
                self.joined.notified().await;
                continue;
            };
            if asked.replace(seen.clone()).as_ref() == Some(&seen) {
                // Woken, and not gone on: somebody else has to be waited for.
                sleep(GO_ON).await;
                if self.seen_by_all().as_ref() != Some(&seen) {
                    continue;
                }
            }
            let only_looks = pool.shares_server_connections();
            let time = if only_looks { Duration::ZERO } else { WAIT };
            let silence = self.begin_to_ask(&seen);
            let answer = wait_for_event(pool, &seen, time, silence).await;
            self.state().asked_above = None;
            let now_seen = self.seen_by_all();
            match answer {
                Ok(true) if now_seen.as_ref().is_some_and(|now| *now != seen) => sleep(PAUSE).await,
                Ok(true) => {
                    if now_seen.is_some() {
                        self.state().woken_at = Some(Instant::now());
                    }
                    self.wake.send_replace(());
                    tokio::task::yield_now().await;
                }
                // Time was up: the same question again is no repetition.
                Ok(false) => {
                    asked = None;
                    if only_looks {
                        sleep(LOOK_INTERVAL).await;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "not waiting for events within Postgres; polling meanwhile");
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// For how long no event was found by asking.
    fn begin_to_ask(&self, seen: &Seen) -> Duration {
        let mut state = self.state();
        state.asked_above = Some(seen.last_id);
        (state.woken_at).map_or(LONG_SILENCE, |woken_at| woken_at.elapsed())
    }

    /// What every reader that waits has read; `None` if none waits.
    fn seen_by_all(&self) -> Option<Seen> {
        let state = self.state();
        let waiting = || state.waiting.iter().flatten();
        let mut gaps: Vec<_> = waiting().flat_map(|it| it.gaps.clone()).collect();
        gaps.sort_by_key(|gap| (gap.start, gap.end));
        gaps.dedup();
        Some(Seen {
            last_id: waiting().map(|it| it.last_id).min()?,
            gaps,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether there is an event that was not seen; false when the time is up. It looks the more rarely
/// the longer the silence was.
async fn wait_for_event(
    pool: &Pool,
    seen: &Seen,
    time: Duration,
    silence: Duration,
) -> sqlx::Result<bool> {
    let gaps: Vec<_> = seen.gaps.iter().cloned().map(PgRange::from).collect();
    sqlx::query_scalar!(
        r#"
        select outbox.wait_for_event(
            $1, $2, $3::float8 * interval '1 second', $4::float8 * interval '1 second'
        ) as "is_there!"
        "#,
        seen.last_id,
        &gaps,
        time.as_secs_f64(),
        silence.as_secs_f64(),
    )
    .fetch_one(pool)
    .await
}
