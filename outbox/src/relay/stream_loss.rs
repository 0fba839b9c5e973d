//! Messages that left the stream before their time: deleted or purged by hand, or lost with a part of
//! the server's disk. The cursor takes their events back as far as the ledger has them, so the reader
//! finds them again in its gaps.
//!
//! ```text
//! look:  missing sequences ─► window: their events ─► row of outbox.stream_loss ─► next session
//! begin: gaps of the cursor ─► reader, publisher ─► look: on the stream again ─► readers are told
//! ```

mod found;
mod missing;
mod reread;
mod store;
mod window;

use std::{
    convert::Infallible,
    ops::{Range, RangeInclusive},
};

use async_nats::jetstream::Context;
use postgres_pool::{Connection, Pool};
use service_runtime::nats::{
    Topic,
    stream::{Refill, Refills},
};

use self::missing::Look;
pub(super) use self::{reread::Reread, store::ledger_from};
use super::{
    cursor::{self, Cursor},
    failure::Failure,
    incarnation,
    look::{Sight, Sights},
    owned::Owned,
    position::Position,
    stream_metadata::MetadataWriter,
};
use crate::metrics::StreamMetrics;

/// What a publisher has to know of lost messages.
#[derive(Debug, Default)]
pub(super) struct Losses {
    missing: Vec<RangeInclusive<i64>>,
    incarnation: u64,
    /// Events that are to be published again.
    ids: Vec<Range<i64>>,
    /// The first sequences of the losses that they belong to.
    taken_back: Vec<i64>,
    /// At which sequences the last two checkpoints are, the newest first; 0 if there is none.
    checkpoints: [i64; 2],
}

impl Losses {
    pub(super) fn missing(&self) -> &[RangeInclusive<i64>] {
        &self.missing
    }

    /// The number of the stream's incarnation.
    pub(super) fn incarnation(&self) -> u64 {
        self.incarnation
    }

    pub(super) fn taken_back(&self) -> Vec<i64> {
        self.taken_back.clone()
    }

    pub(super) fn ids(&self) -> Vec<Range<i64>> {
        self.ids.clone()
    }

    /// The id under which to publish an event again that the server takes for a duplicate of the
    /// message at this sequence, if that message is gone, or if nobody would know that the event stood there
    /// if it were: two checkpoints have passed the message without it. (`ce-id` stays that of the event.)
    pub(super) fn new_message_id(&self, event_id: uuid::Uuid, sequence: u64) -> Option<String> {
        let at = sequence.cast_signed();
        let is_missing = self.missing.iter().any(|it| it.contains(&at));
        let is_unknown = at <= self.checkpoints[1];
        (is_missing || is_unknown).then(|| format!("{event_id}/{}-{sequence}", self.incarnation))
    }

    /// A checkpoint is about to be saved.
    pub(super) fn checkpoint(&mut self, sequence: i64) {
        let [newest, _] = self.checkpoints;
        if sequence > newest {
            self.checkpoints = [sequence, newest];
        }
    }
}

/// Takes back into the cursor what is to be published again. Saved before anything is published: a
/// saved cursor without these gaps says that all of it is done.
pub(super) async fn begin(
    pool: &Pool,
    owned: &Owned,
    cursor: &mut Cursor,
) -> Result<Losses, Failure> {
    store::end_at_cursor(pool, owned, cursor.position.last_id()).await?;
    let (taken_back, named) = store::open(pool, &owned.stream).await?;
    let ids = passed(&cursor.position, &named);
    if !ids.is_empty() {
        for ids in &ids {
            cursor.position.reopen(ids.clone());
        }
        // They stood nowhere, and would be refused again.
        for id in store::parked(pool, &ids).await? {
            cursor.position.abandon(id..id + 1);
        }
        cursor::save(pool, owned, cursor).await?;
    }
    let incarnations = incarnation::load(pool, &owned.stream).await?;
    let checkpoints = cursor::newest_checkpoints(pool, &owned.stream, 2).await?;
    let [newest, second] = [0, 1].map(|index| checkpoints.get(index).copied().unwrap_or(0));
    Ok(Losses {
        missing: store::missing(pool, &owned.stream).await?,
        incarnation: incarnations.last().map_or(0, |it| it.number),
        ids,
        taken_back,
        checkpoints: [newest, second],
    })
}

/// What the cursor has passed of these. A gap that it has already may hold an event that was never published,
/// which must come before newer ones of its aggregate.
fn passed(position: &Position, ids: &[Range<i64>]) -> Vec<Range<i64>> {
    let mut passed = Position::new(position.last_id(), []);
    for ids in ids {
        passed.reopen(ids.clone());
    }
    for gap in position.gaps() {
        passed.abandon(gap);
    }
    passed.gaps().collect()
}

/// The stream goes on from this sequence, in this transaction: what is known of later ones no longer
/// counts, and what was refilled there is lost again.
pub(super) async fn move_back(
    transaction: &mut Connection,
    stream: &str,
    sequence: i64,
) -> sqlx::Result<()> {
    store::forget_above(transaction, stream, sequence).await
}

/// What readers are told, and how many ranges there is no room for.
pub(super) async fn refills(pool: &Pool, stream: &str) -> sqlx::Result<(Refills, u64)> {
    let mut refills = Refills::default();
    let refilled = store::refilled(pool, stream).await?;
    let forgotten = refilled.len().saturating_sub(Refills::MOST);
    for (missing, through) in refilled {
        let (first, last) = missing.into_inner();
        refills.add(Refill {
            missing: first.cast_unsigned()..=last.cast_unsigned(),
            through: through.cast_unsigned(),
        });
    }
    Ok((refills, forgotten as u64))
}

/// What looking for missing messages takes.
#[derive(Clone, Copy)]
pub(super) struct Watch<'a> {
    pub(super) pool: &'a Pool,
    pub(super) jetstream: &'a Context,
    pub(super) topic: &'a Topic,
    pub(super) owned: &'a Owned,
    pub(super) metadata: &'a MetadataWriter,
    pub(super) reread: &'a Reread,
    pub(super) metrics: &'a StreamMetrics,
    /// See [`Losses`].
    pub(super) taken_back: &'a [i64],
}

impl Watch<'_> {
    /// Looks for what is missing, beside a session, which has to end when something was found.
    pub(super) async fn run(self, sights: Sights) -> Failure {
        match tokio::try_join!(self.look(sights.clone()), self.reread(sights)) {
            Err(failure) => failure,
            Ok((never, _)) => match never {},
        }
    }

    /// For what the server says is gone.
    async fn look(self, mut sights: Sights) -> Result<Infallible, Failure> {
        let mut look = Look::default();
        let mut trouble = Trouble::default();
        loop {
            let sight = sights.next().await;
            let noted = self.note_missing(&mut look, &sight).await;
            if trouble.or_later(noted, &self.owned.stream)? {
                return Err(Failure::MessagesMissing);
            }
        }
    }

    /// Whether anything is missing. All of it at once: each time that something was found costs a
    /// session.
    async fn note_missing(self, look: &mut Look, sight: &Sight) -> Result<bool, Failure> {
        let mut is_any = false;
        loop {
            let missing = (look.missing(self.pool, self.jetstream, self.owned, sight)).await?;
            if !window::note_losses(self, missing).await? {
                break;
            }
            is_any = true;
        }
        if !is_any && sight.saved.has_losses {
            self.finish().await?;
        }
        Ok(is_any)
    }

    /// For what the server does not know to be gone.
    async fn reread(self, mut sights: Sights) -> Result<Infallible, Failure> {
        let mut trouble = Trouble::default();
        loop {
            let sight = sights.next().await;
            let reread = async {
                let stream = &self.owned.stream;
                let missing = (self.reread).missing(self.pool, self.jetstream, stream, &sight);
                let missing = missing.await;
                if let Err(Failure::JetStream(_)) = &missing {
                    self.reread.doubt(self.jetstream).await;
                }
                window::note_losses(self, missing?).await
            };
            if trouble.or_later(reread.await, &self.owned.stream)? {
                return Err(Failure::MessagesMissing);
            }
        }
    }

    /// Notes that all events that were lost are on the stream again, once they are.
    async fn finish(self) -> Result<(), Failure> {
        let stream = &self.owned.stream;
        let Some(finished) = store::finish(self.pool, self.owned, self.taken_back).await? else {
            return Ok(());
        };
        let (refilled, forgotten) = refills(self.pool, stream).await?;
        self.metadata.change(|it| it.refilled = refilled).await?;
        self.metrics
            .refilled
            .increment(finished.messages.cast_unsigned());
        tracing::info!(
            stream,
            messages = finished.messages,
            through_sequence = finished.through,
            "the events of the lost messages are on the stream again"
        );
        // Some of them may have been forgotten before.
        let forgotten = forgotten.min(finished.ranges.cast_unsigned());
        if forgotten > 0 {
            self.metrics.refills_forgotten.increment(forgotten);
            tracing::warn!(
                stream,
                ranges = forgotten,
                "the stream's metadata have no room for all ranges that were filled again: consumers \
                 that have not read of them yet keep holes until they are verified"
            );
        }
        Ok(())
    }
}

/// Looking that fails is no reason to publish nothing: whether the stream can be had is noticed by those
/// who publish to it.
#[derive(Default)]
struct Trouble {
    is_reported: bool,
}

impl Trouble {
    fn or_later(&mut self, looked: Result<bool, Failure>, stream: &str) -> Result<bool, Failure> {
        match looked {
            Err(failure @ Failure::JetStream(_)) => {
                if !self.is_reported {
                    tracing::warn!(%failure, stream, "lost messages can't be looked for; trying again");
                }
                self.is_reported = true;
                Ok(false)
            }
            looked => {
                self.is_reported = false;
                looked
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Position, passed};

    #[test]
    fn a_gap_that_was_there_before_is_not_published_again() {
        let position = Position::new(9, [4..5, 7..8]);
        let named = [2..5, 6..7, 4..5, 7..8, 10..20];
        assert_eq!(passed(&position, &named), [2..4, 6..7]);
    }
}
