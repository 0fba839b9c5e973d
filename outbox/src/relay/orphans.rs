//! Messages that the ledger does not have: of writes that a restore or a fail-over has undone.
//!
//! Everything above the saved tail is looked up in the ledger before the tail passes it: at the start
//! of each session what is on the stream by then, and later whatever comes between the relay's own
//! acknowledgements. The aggregates of what is not there are restated: they get an event with their
//! present state, at a version above that of every message that the stream has of them.

mod lookup;
mod restate;
mod scan;
pub(super) mod superseded;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use async_nats::jetstream::Context;
use postgres_pool::Pool;
use service_runtime::{nats::Topic, progress::Progress};

use tokio::time::{sleep, timeout};

use self::lookup::Findings;
use super::{
    ACK_TIMEOUT, doubts,
    failure::Failure,
    look::{Sight, Sights},
    owned::Owned,
    start::Start,
    stream_info,
};
use crate::metrics::StreamMetrics;

/// What the relay has published itself is acknowledged within this time, or the session ends.
const ACK_PATIENCE: Duration = ACK_TIMEOUT;
const ACK_PAUSE: Duration = Duration::from_millis(50);

/// After which what was absent is read again.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// Sequences that are looked up at once.
const BATCH: u64 = 1000;

/// What looking up takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lookup<'a> {
    pub(super) pool: &'a Pool,
    pub(super) jetstream: &'a Context,
    pub(super) topic: &'a Topic,
    pub(super) owned: &'a Owned,
    pub(super) aggregate_types: &'a [String],
    pub(super) progress: &'a Progress,
    pub(super) metrics: &'a StreamMetrics,
}

/// Every message of the stream up to this sequence was looked up, or is an event that this relay
/// has published.
#[derive(Debug, Default)]
pub(super) struct LookedUp(AtomicU64);

impl LookedUp {
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn raise(&self, sequence: u64) {
        self.0.fetch_max(sequence, Ordering::AcqRel);
    }
}

/// Finds the orphans that the stream has now and has their aggregates restated. Nothing may be
/// published meanwhile. Each step can be repeated: what was found is kept before it counts as
/// looked up, and is restated in the transaction that notes that.
pub(super) async fn reconcile(lookup: Lookup<'_>, start: &Start) -> Result<LookedUp, Failure> {
    let Lookup { pool, owned, .. } = lookup;
    let (first, last) = ends(lookup).await?;
    let saved = saved(pool, &owned.stream).await?;
    let tail = u64::try_from(start.cursor.tail.sequence).unwrap_or(0);
    // A stream that ends below has lost what was looked up.
    let from = Some(saved.looked_up_to).filter(|it| *it <= last);
    let from = tail.max(from.unwrap_or(0));
    if !start.lost.on_stream && first > from + 1 {
        doubts::note_gone(pool, owned).await?;
    }
    begin(lookup, &saved, from).await?;
    let holes = match start.lost.on_stream {
        true => Holes::Known,
        false => Holes::New,
    };
    let from_first = from.max(first.saturating_sub(1));
    let has_found = look_up(lookup, from_first, last, holes).await?;
    restate::all(lookup).await?;
    if has_found {
        restate::report_without_function(pool, &owned.stream).await?;
    }
    note_database(pool, owned, &saved).await?;
    let looked_up = LookedUp::default();
    looked_up.raise(from.max(last));
    Ok(looked_up)
}

/// Messages that are absent where others are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holes {
    /// Nobody knows of them.
    New,
    /// The stream has lost its end, and they may have been filled again behind the checkpoint; or an
    /// operator is told already.
    Known,
}

/// Looks up the messages above `from`, up to `to`; whether there are orphans among them.
async fn look_up(
    lookup: Lookup<'_>,
    from: u64,
    to: u64,
    mut holes: Holes,
) -> Result<bool, Failure> {
    if to <= from {
        return Ok(false);
    }
    let stream = lookup.topic.stream.as_str();
    let mut findings = Findings::default();
    let mut looked_up_to = from;
    while looked_up_to < to {
        let next = to.min(looked_up_to + BATCH);
        let read = || scan::read(lookup.jetstream, lookup.topic, looked_up_to, next);
        let mut batch = read().await?;
        if batch.has_holes && holes == Holes::New {
            // A server that is starting or stopping says so of messages that it has.
            sleep(SECOND_LOOK).await;
            batch = read().await?;
            if batch.has_holes {
                doubts::note_gone(lookup.pool, lookup.owned).await?;
                holes = Holes::Known;
            }
        }
        let found = lookup::keep(lookup, batch.found, next).await?;
        findings.add(&found);
        lookup.progress.attempted();
        looked_up_to = next;
    }
    if findings.orphans > 0 {
        (lookup.metrics.orphans_found).increment(findings.orphans as u64);
        tracing::error!(
            stream,
            orphans = findings.orphans,
            messages = findings.messages,
            from_sequence = from,
            "the stream has events that the database does not have, as after a restore or a fail-over; \
             their aggregates are restated"
        );
    }
    if let Some((sequence, reason)) = findings.first_unreadable {
        tracing::warn!(
            stream,
            messages = findings.unreadable,
            sequence,
            reason,
            "messages on the stream do not say which event they are; ignored them"
        );
    }
    Ok(findings.orphans > 0)
}

/// Looks for messages that others have published, also while the relay publishes nothing, and for
/// aggregates that can be restated by now.
pub(super) async fn watch(lookup: Lookup<'_>, looked_up: &LookedUp, mut sights: Sights) -> Failure {
    loop {
        let sight = sights.next().await;
        if let Err(failure) = attend(lookup, looked_up, &sight).await {
            return failure;
        }
    }
}

async fn attend(lookup: Lookup<'_>, looked_up: &LookedUp, sight: &Sight) -> Result<(), Failure> {
    let last = sight.info.state.last_sequence;
    // Most are the relay's own, whose acknowledgements are on their way.
    let own = async {
        while looked_up.get() < last {
            sleep(ACK_PAUSE).await;
        }
    };
    if timeout(ACK_PATIENCE, own).await.is_err() {
        let from = looked_up.get();
        look_up_strangers(lookup, from, last).await?;
        looked_up.raise(last);
    }
    if sight.saved.orphans.are_new {
        return Err(Failure::Orphans);
    }
    if sight.saved.orphans.were_left_out {
        restate::again(lookup).await?;
    }
    Ok(())
}

/// Looks up what others have published. What can be restated ends the session.
pub(super) async fn look_up_strangers(
    lookup: Lookup<'_>,
    from: u64,
    to: u64,
) -> Result<(), Failure> {
    let stream = &lookup.owned.stream;
    if !look_up(lookup, from, to, Holes::New).await? {
        return Ok(());
    }
    if restate::is_due(lookup.pool, stream).await? {
        return Err(Failure::Orphans);
    }
    Ok(restate::report_without_function(lookup.pool, stream).await?)
}

async fn ends(
    Lookup {
        jetstream, topic, ..
    }: Lookup<'_>,
) -> Result<(u64, u64), Failure> {
    let state = stream_info::info(jetstream, &topic.stream).await?.state;
    Ok((state.first_sequence, state.last_sequence))
}

struct Saved {
    looked_up_to: u64,
    database_identity: Option<String>,
}

async fn saved(pool: &Pool, stream: &str) -> sqlx::Result<Saved> {
    let row = sqlx::query!(
        "select looked_up_to, database_identity from outbox.cursor where stream = $1",
        stream,
    )
    .fetch_one(pool)
    .await?;
    Ok(Saved {
        looked_up_to: u64::try_from(row.looked_up_to).unwrap_or(0),
        database_identity: row.database_identity,
    })
}

/// What was looked up on a stream that has lost its end since does not count.
async fn begin(lookup: Lookup<'_>, saved: &Saved, from: u64) -> Result<(), Failure> {
    if saved.looked_up_to <= from {
        return Ok(());
    }
    let mut transaction = lookup.pool.begin().await?;
    lookup.owned.hold(&mut transaction).await?;
    sqlx::query!(
        "update outbox.cursor set looked_up_to = $2 where stream = $1",
        lookup.owned.stream,
        i64::try_from(from).unwrap_or(i64::MAX),
    )
    .execute(&mut *transaction)
    .await?;
    Ok(transaction.commit().await?)
}

/// By this a later session knows whether it has another database before it.
async fn note_database(pool: &Pool, owned: &Owned, saved: &Saved) -> Result<(), Failure> {
    if saved.database_identity.as_ref() == Some(&owned.identity) {
        return Ok(());
    }
    let noted = sqlx::query!(
        r"
        update outbox.cursor set database_identity = $3
        where stream = $1 and epoch = $2 and session = $4 and outbox.database_identity() = $3
        ",
        owned.stream,
        owned.epoch,
        owned.identity,
        owned.session,
    )
    .execute(pool)
    .await?;
    match noted.rows_affected() {
        0 => Err(Failure::SessionOver),
        _ => Ok(()),
    }
}
