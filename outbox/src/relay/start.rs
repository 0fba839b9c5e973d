//! Where a session begins: at the saved cursor, if stream and ledger are still what it stands for.
//! Otherwise at the newest checkpoint of which that is true, or at the beginning of the ledger. Events
//! between there and the saved cursor are published again.

use async_nats::jetstream::Context;
use postgres_pool::Pool;
use service_runtime::nats::Topic;

use super::{
    completeness,
    cursor::{self, Cursor},
    decisions, doubts,
    failure::Failure,
    incarnation, ledger_check, look,
    owned::Owned,
    stream_check, stream_info, stream_loss,
    stream_metadata::MetadataWriter,
};
use crate::{ledger, metrics::StreamMetrics};

/// Where to begin, and what the saved cursor no longer agreed with.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) cursor: Cursor,
    pub(super) lost: Lost,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// The stream has lost events that it had acknowledged.
    pub(super) on_stream: bool,
    /// The ledger was restored to an earlier state.
    pub(super) in_ledger: bool,
}

pub(super) async fn find(
    pool: &Pool,
    jetstream: &Context,
    topic: &Topic,
    owned: &Owned,
    metadata: &MetadataWriter,
    metrics: &StreamMetrics,
) -> Result<Start, Failure> {
    let mut lost = Lost::default();
    let saved = cursor::load(pool, &topic.stream).await?;
    let mut found = saved.clone();
    loop {
        let in_ledger = ledger_check::has(pool, &found).await?;
        let info = stream_info::info(jetstream, &topic.stream).await?;
        let on_stream = stream_check::has(jetstream, &info, found.tail).await?;
        if in_ledger && on_stream {
            break;
        }
        lost.in_ledger |= !in_ledger;
        lost.on_stream |= !on_stream;
        let mut above = found.tail.sequence;
        if !on_stream {
            // There may be many checkpoints behind the stream's end.
            above = above.min(stream_check::end(&info).saturating_add(1));
        }
        let earlier = cursor::checkpoint_below(pool, &topic.stream, above).await?;
        found = earlier.unwrap_or_default();
    }
    if ledger::event_id(pool, found.position.last_id())
        .await?
        .is_none()
    {
        // Dropped after the retention: there is nothing left to compare with.
        found.last_event_id = None;
    }
    if lost != Lost::default() {
        let end = End::of(pool, &topic.stream, &saved, &found).await?;
        let told = metadata.read().await?.incarnations.number();
        let told = lost.on_stream.then_some(told);
        move_back(pool, owned, (&saved, &found), told, lost.in_ledger).await?;
        // Not before: if it fails, the next session finds the same.
        report(&lost, &end, (&saved, &found), metrics, &topic.stream);
    }
    Ok(Start {
        cursor: found,
        lost,
    })
}

/// What comes after a checkpoint.
struct End {
    messages: i64,
    /// Whether the outbox still has all events from there on.
    is_complete: bool,
}

impl End {
    async fn of(
        pool: &Pool,
        stream: &str,
        saved: &Cursor,
        checkpoint: &Cursor,
    ) -> Result<Self, Failure> {
        // What had expired before is not lost.
        let began_at = look::load(pool, stream).await?.beginning.sequence;
        let kept_after = began_at.map_or(0, |it| it - 1);
        let after = checkpoint.tail.sequence.max(kept_after);
        let next = checkpoint.position.last_id() + 1;
        let next = checkpoint
            .position
            .gaps()
            .next()
            .map_or(next, |gap| gap.start);
        Ok(Self {
            messages: saved.tail.sequence - after,
            is_complete: stream_loss::ledger_from(pool).await? <= next,
        })
    }
}

fn report(
    lost: &Lost,
    end: &End,
    (saved, checkpoint): (&Cursor, &Cursor),
    metrics: &StreamMetrics,
    stream: &str,
) {
    if lost.on_stream {
        metrics.lost(end.messages);
        metrics.unrecoverable.increment(u64::from(!end.is_complete));
        tracing::error!(
            stream,
            acknowledged_sequence = saved.tail.sequence,
            found_sequence = checkpoint.tail.sequence,
            from_outbox_id = checkpoint.position.last_id(),
            "the stream has lost events that it had acknowledged; publishing the ledger again"
        );
    }
    if lost.in_ledger {
        tracing::error!(
            stream,
            cursor_outbox_id = saved.position.last_id(),
            from_outbox_id = checkpoint.position.last_id(),
            "the outbox is behind the relay's cursor, as after a restore; publishing the ledger again"
        );
    }
}

/// Moves the cursor back to a checkpoint and forgets those behind it. If the stream has lost what came
/// after it, another incarnation of it begins there, after the one that readers were `told` of. That
/// the ledger has lost something as well is noted with it: no later session could tell.
async fn move_back(
    pool: &Pool,
    owned: &Owned,
    (saved, checkpoint): (&Cursor, &Cursor),
    told: Option<u64>,
    is_ledger_restored: bool,
) -> Result<(), Failure> {
    let mut transaction = pool.begin().await?;
    cursor::save(&mut *transaction, owned, checkpoint).await?;
    let sequence = checkpoint.tail.sequence;
    cursor::forget_checkpoints_above(&mut *transaction, &owned.stream, sequence).await?;
    cursor::look_up_again(&mut transaction, &owned.stream).await?;
    completeness::move_back(&mut transaction, &owned.stream).await?;
    let mut is_uncertain = false;
    if let Some(told) = told {
        is_uncertain = doubts::note_both(&mut transaction, owned, is_ledger_restored).await?;
        stream_loss::move_back(&mut transaction, &owned.stream, sequence).await?;
        incarnation::begin(&mut transaction, &owned.stream, told, sequence).await?;
    }
    transaction.commit().await?;
    decisions::moved_back(owned, saved, checkpoint);
    if is_uncertain {
        doubts::report_both(&owned.stream);
    }
    Ok(())
}
