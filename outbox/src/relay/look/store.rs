//! What a look asks Postgres, in one statement.

use std::time::Duration;

use postgres_pool::Pool;

use crate::relay::cursor::Tail;

#[derive(Debug)]
pub(in crate::relay) struct Saved {
    pub(in crate::relay) tail: Tail,
    /// Events get ids that a cursor has passed.
    pub(in crate::relay) is_sequence_behind: bool,
    /// Events get ids that were drawn in advance.
    pub(in crate::relay) is_sequence_cached: bool,
    pub(in crate::relay) orphans: Waiting,
    /// A republish run has come to its end; its events may be on the stream.
    pub(in crate::relay) has_finished_run: bool,
    /// Events of lost messages are not on the stream again yet.
    pub(in crate::relay) has_losses: bool,
    /// What the stream would be complete from without losses.
    pub(in crate::relay) complete_from: Option<i64>,
    /// Where the stream began.
    pub(in crate::relay) beginning: Beginning,
}

/// Aggregates that are to be restated.
#[derive(Debug, Clone, Copy)]
pub(in crate::relay) struct Waiting {
    /// They could not be before.
    pub(in crate::relay) are_new: bool,
    /// They were left out some time ago.
    pub(in crate::relay) were_left_out: bool,
}

/// Where the stream began when it was last looked at.
#[derive(Debug, Clone, Copy)]
pub(in crate::relay) struct Beginning {
    pub(in crate::relay) sequence: Option<i64>,
    /// Of the message there.
    pub(in crate::relay) published_at: Option<chrono::DateTime<chrono::Utc>>,
    /// By which messages expired.
    pub(in crate::relay) max_age_seconds: Option<f64>,
}

impl Beginning {
    pub(in crate::relay) fn max_age(self) -> Option<Duration> {
        (self.max_age_seconds).and_then(|it| Duration::try_from_secs_f64(it).ok())
    }

    pub(in crate::relay) fn is_same(self, other: Self) -> bool {
        self.sequence == other.sequence && self.max_age() == other.max_age()
    }
}

pub(in crate::relay) async fn load(pool: &Pool, stream: &str) -> sqlx::Result<Saved> {
    let row = sqlx::query!(
        r#"
        select stream_sequence, stream_event_id, complete_from,
               stream_first_sequence, stream_first_at, stream_max_age_seconds,
               exists (
                   select from outbox.cursor as passed, outbox.event_id_seq
                   where last_value - (not is_called)::int < passed.last_id
               ) as "is_sequence_behind!",
               exists (
                   select from pg_sequence
                   where seqrelid = 'outbox.event_id_seq'::regclass and seqcache > 1
               ) as "is_sequence_cached!",
               exists (
                   select from outbox.orphan join outbox.aggregate using (aggregate_type)
                   where orphan.stream = $1 and restated_at is null and error is null
               ) as "are_new!",
               exists (
                   select from outbox.orphan join outbox.aggregate using (aggregate_type)
                   where orphan.stream = $1 and restated_at is null
                       and retry_at <= clock_timestamp()
               ) as "were_left_out!",
               exists (
                   select from outbox.republish_run as run
                   where run.stream = $1 and run.last_id is not null
               ) as "has_finished_run!",
               exists (
                   select from outbox.stream_loss as loss
                   where loss.stream = $1 and refilled_through is null
               ) as "has_losses!"
        from outbox.cursor where stream = $1
        "#,
        stream,
    )
    .fetch_one(pool)
    .await?;
    Ok(Saved {
        tail: Tail {
            sequence: row.stream_sequence,
            event_id: row.stream_event_id,
        },
        is_sequence_behind: row.is_sequence_behind,
        is_sequence_cached: row.is_sequence_cached,
        orphans: Waiting {
            are_new: row.are_new,
            were_left_out: row.were_left_out,
        },
        has_finished_run: row.has_finished_run,
        has_losses: row.has_losses,
        complete_from: row.complete_from,
        beginning: Beginning {
            sequence: row.stream_first_sequence,
            published_at: row.stream_first_at,
            max_age_seconds: row.stream_max_age_seconds,
        },
    })
}
