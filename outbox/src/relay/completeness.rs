//! From where on a stream is enough to build a whole copy: known in the database, and told to
//! readers in the stream's metadata.
//!
//! What the database says changes in three ways only: it begins as 1 with the first event; a cursor
//! that moves back takes it back unless the outbox still has what the stream has lost; and a
//! finished republish run sets it to where that began.

use std::{convert::Infallible, time::Duration};

use async_nats::jetstream::Context;
use postgres_pool::{Connection, Pool};
use service_runtime::nats::{
    Topic,
    stream::{Incarnation, LedgerIdentity, Refills, StreamMetadata},
};
use tokio::time::Instant;

use super::{
    failure::Failure,
    incarnation,
    look::{Sight, Sights},
    owned::Owned,
    stream_check, stream_loss,
    stream_metadata::MetadataWriter,
};

/// How often the incarnations and refills in the database are compared with the metadata. What somebody
/// changes on the stream is noticed at the next look: whoever edits it may write what was there before.
const COMPARE_INTERVAL: Duration = Duration::from_secs(5);

/// Keeps the stream's metadata as the database has it. Publishing goes on if that fails.
pub(super) struct Telling<'a> {
    pub(super) pool: &'a Pool,
    pub(super) jetstream: &'a Context,
    pub(super) topic: &'a Topic,
    pub(super) owned: &'a Owned,
    pub(super) mine: &'a LedgerIdentity,
    pub(super) metadata: &'a MetadataWriter,
}

/// What the metadata said when they were last compared.
struct Told {
    metadata: StreamMetadata,
    at: Instant,
}

impl Telling<'_> {
    pub(super) async fn run(&self, mut sights: Sights) -> Infallible {
        let mut told: Option<Told> = None;
        let mut has_failed = false;
        loop {
            let sight = sights.next().await;
            let recent = told.take_if(|it| it.at.elapsed() < COMPARE_INTERVAL);
            match self.tell(&sight, recent).await {
                Ok(now) => {
                    told = Some(now);
                    has_failed = false;
                }
                Err(failure) => {
                    if !has_failed {
                        tracing::warn!(
                            %failure,
                            stream = self.topic.stream,
                            "readers are not told from where the stream is complete"
                        );
                    }
                    has_failed = true;
                }
            }
        }
    }

    /// What is told by now, of all that the database says.
    async fn tell(&self, sight: &Sight, recent: Option<Told>) -> Result<Told, Failure> {
        let complete_from = self.complete_from(sight).await?;
        let metadata = StreamMetadata::of(&sight.info);
        if let Some(recent) = recent
            && metadata == recent.metadata
            && metadata.complete_from == complete_from
        {
            return Ok(recent);
        }
        let changes = Changes::load(self.pool, &self.topic.stream).await?;
        let wanted = |metadata: &mut StreamMetadata| {
            changes.tell(metadata);
            metadata.complete_from = complete_from;
            // Another one that stands there has taken the stream over.
            metadata.ledger.get_or_insert_with(|| self.mine.clone());
        };
        let mut complete = metadata.clone();
        wanted(&mut complete);
        if complete != metadata {
            // Asked now: a stream that was created again before fails this, and one that is created
            // again after it has another time of creation than the metadata name.
            if !stream_check::is_whole(self.pool, self.jetstream, self.topic).await? {
                return Err(Failure::StreamChanged);
            }
            if self.metadata.change(wanted).await? {
                tracing::info!(
                    stream = self.topic.stream,
                    complete_from,
                    "told readers from where the stream is complete, and where it has changed"
                );
            }
        }
        Ok(Told {
            metadata: complete,
            at: Instant::now(),
        })
    }

    async fn complete_from(&self, sight: &Sight) -> sqlx::Result<Option<u64>> {
        let saved = &sight.saved;
        let complete_from = match saved.has_finished_run {
            true => note_published_runs(self.pool, self.owned).await?,
            // Until the events of lost messages are on it again, the stream is not complete.
            false => saved.complete_from.filter(|_| !saved.has_losses),
        };
        Ok(complete_from.and_then(|sequence| u64::try_from(sequence).ok()))
    }
}

/// What readers have to know of the stream's past.
struct Changes {
    incarnations: Vec<Incarnation>,
    refilled: Refills,
}

impl Changes {
    async fn load(pool: &Pool, stream: &str) -> sqlx::Result<Self> {
        Ok(Self {
            incarnations: incarnation::load(pool, stream).await?,
            refilled: stream_loss::refills(pool, stream).await?.0,
        })
    }

    fn tell(&self, metadata: &mut StreamMetadata) {
        for incarnation in &self.incarnations {
            metadata.incarnations.begin(*incarnation);
        }
        metadata.refilled = self.refilled.clone();
    }
}

/// Before anything is published: readers have to know of each time that the relay has moved back, and
/// that what was published again after that is gone.
pub(super) async fn tell_changes(
    pool: &Pool,
    metadata: &MetadataWriter,
    stream: &str,
) -> Result<(), Failure> {
    let changes = Changes::load(pool, stream).await?;
    if metadata.change(|it| changes.tell(it)).await? {
        tracing::info!(stream, "told readers where the stream has changed");
    }
    Ok(())
}

/// A run is published when no event up to its last id is pending. What the stream is complete from
/// by then.
async fn note_published_runs(pool: &Pool, owned: &Owned) -> sqlx::Result<Option<i64>> {
    let complete_from = sqlx::query_scalar!(
        r#"
        with published as (
            select run.id, run.stream_sequence from outbox.republish_run as run
            where run.stream = $1 and run.last_id is not null
                and not exists (
                    select from outbox.pending where stream = $1 and id <= run.last_id
                )
                and exists (
                    select from outbox.cursor
                    where stream = $1 and epoch = $2 and session = $4
                        and outbox.database_identity() = $3
                )
        ), done as (
            delete from outbox.republish_run as run using published where run.id = published.id
        ), raised as (
            update outbox.cursor
            set complete_from = greatest(
                complete_from, (select max(stream_sequence) + 1 from published)
            )
            where stream = $1 and session = $4 and exists (select from published)
            returning complete_from
        )
        select coalesce((select complete_from from raised), complete_from)
        from outbox.cursor where stream = $1 and not exists (
            -- Until its events are on it again, the stream is not complete.
            select from outbox.stream_loss
            where stream_loss.stream = $1 and refilled_through is null
        )
        "#,
        owned.stream,
        owned.epoch,
        owned.identity,
        owned.session,
    )
    .fetch_optional(pool)
    .await?;
    Ok(complete_from.flatten())
}

/// The cursor was moved back, in this transaction: what was published behind it is published again
/// as far as the outbox still has it. At the beginning of the whole ledger that is everything.
pub(super) async fn move_back(transaction: &mut Connection, stream: &str) -> sqlx::Result<()> {
    sqlx::query!(
        r"
        update outbox.cursor set complete_from = case
            when least((select min(lower(gap)) from unnest(gaps) as gap), last_id + 1) < ledger_from
                then null
            when last_id = 0 then 1
            when complete_from <= stream_sequence + 1 then complete_from
        end
        from outbox.ledger where stream = $1
        ",
        stream,
    )
    .execute(&mut *transaction)
    .await?;
    // Their events may come to stand below the sequence that they began at.
    sqlx::query!("delete from outbox.republish_run where stream = $1", stream)
        .execute(transaction)
        .await
        .map(drop)
}
