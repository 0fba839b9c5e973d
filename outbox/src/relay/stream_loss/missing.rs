//! Which messages are gone that should be there.

use std::{ops::RangeInclusive, time::Duration};

use async_nats::jetstream::{
    Context,
    stream::{Info, State},
};
use chrono::{DateTime, TimeDelta};
use futures::TryFutureExt;
use postgres_pool::Pool;
use service_runtime::nats::stream;

use super::store;
use crate::relay::{
    STREAM_TIMEOUT,
    failure::{Failure, within},
    look::{Beginning, Sight},
    owned::Owned,
    stream_info::first_sequence,
};

/// Of more ranges the rest is found by the next look.
const MOST: usize = 1000;
/// Clocks are set, and messages expire a little late.
const MARGIN: Duration = Duration::from_secs(60);

/// What the last look saw, so that the long list of what is deleted is asked for only if it changed.
#[derive(Debug, Default)]
pub(super) struct Look {
    seen: Option<(u64, u64)>,
}

impl Look {
    /// The sequences up to the saved end that are missing and not known for it, in order.
    pub(super) async fn missing(
        &mut self,
        pool: &Pool,
        jetstream: &Context,
        owned: &Owned,
        sight: &Sight,
    ) -> Result<Vec<RangeInclusive<i64>>, Failure> {
        let Sight { saved, info } = sight;
        let has_other_beginning = !saved.beginning.is_same(beginning(info));
        let has_other_holes = self.has_other_holes(info);
        if !has_other_beginning && !has_other_holes {
            return Ok(Vec::new());
        }
        let tail = saved.tail.sequence;
        let known = store::missing(pool, &owned.stream).await?;
        let mut missing = Vec::new();
        if has_other_beginning {
            missing = from_the_beginning(pool, jetstream, owned, sight, &known).await?;
        }
        let deleted = match has_other_holes {
            true => deleted(jetstream, &owned.stream).await?,
            false => Vec::new(),
        };
        let last_deleted = deleted.last().map_or(0, |it| it.cast_signed());
        let deleted: Vec<_> = (deleted.iter())
            .map(|it| it.cast_signed()..=it.cast_signed())
            .collect();
        missing.extend(unknown(&deleted, tail, &known));
        missing.truncate(MOST);
        if has_other_holes {
            let is_all_known = missing.is_empty() && last_deleted <= tail;
            self.seen = is_all_known.then(|| holes(info));
        }
        Ok(missing)
    }

    fn has_other_holes(&self, info: &Info) -> bool {
        let (deleted, _) = holes(info);
        deleted > 0 && self.seen != Some(holes(info))
    }
}

/// How many messages are deleted, and where the stream begins: what changes with the list of them.
fn holes(info: &Info) -> (u64, u64) {
    let State {
        deleted_count,
        first_sequence,
        ..
    } = &info.state;
    (deleted_count.unwrap_or_default(), *first_sequence)
}

async fn deleted(jetstream: &Context, stream: &str) -> Result<Vec<u64>, Failure> {
    let asking = async {
        let failed = |error: &dyn std::fmt::Display| Failure::JetStream(error.to_string());
        let stream = jetstream.get_stream_no_info(stream).await;
        let asking = stream.map_err(|it| failed(&it))?.info_builder();
        let detailed = asking.with_deleted(true).fetch().await;
        let info = detailed.map_err(|it| failed(&it))?.info;
        Ok::<_, Failure>(info.state.deleted.unwrap_or_default())
    };
    within(STREAM_TIMEOUT, asking).await
}

fn beginning(info: &Info) -> Beginning {
    let state = &info.state;
    Beginning {
        sequence: Some(first_sequence(info)),
        published_at: DateTime::from_timestamp(state.first_timestamp.unix_timestamp(), 0)
            .filter(|_| state.messages > 0),
        max_age_seconds: Some(info.config.max_age.as_secs_f64()),
    }
}

/// What has left the beginning since the last look, was not old enough for that, and is not known yet.
async fn from_the_beginning(
    pool: &Pool,
    jetstream: &Context,
    owned: &Owned,
    Sight { saved, info }: &Sight,
    known: &[RangeInclusive<i64>],
) -> Result<Vec<RangeInclusive<i64>>, Failure> {
    let tail = saved.tail.sequence;
    let first = first_sequence(info);
    let (before, now) = (saved.beginning, beginning(info));
    let left = match before.sequence {
        Some(sequence) if sequence < first => {
            let from = kept_too_short(pool, jetstream, info, before, now).await?;
            from.map(|from| from.max(sequence)..=first - 1)
        }
        _ => None,
    };
    let missing = unknown(left.as_slice(), tail, known);
    let reaches = left.map_or(0, |it| *it.end());
    // Not before all of it is known, up to what the cursor is about to pass.
    if missing.is_empty() && reaches <= tail {
        store::save_beginning(pool, owned, now, info.config.duplicate_window).await?;
    }
    Ok(missing)
}

/// From which sequence on messages have left the stream too early; `None` if age explains all. It is
/// the server whose clock tells: the relay's own may be wrong, and then all that expires were lost.
async fn kept_too_short(
    pool: &Pool,
    jetstream: &Context,
    info: &Info,
    before: Beginning,
    now: Beginning,
) -> Result<Option<i64>, Failure> {
    let config = &info.config;
    if config.max_messages_per_subject > 0 || config.allow_rollup {
        // Somebody has set the stream up so that newer messages replace older ones.
        return Ok(None);
    }
    // Until this look another limit may have counted.
    let limits = [Some(config.max_age), before.max_age()].into_iter();
    let Some(max_age) = limits.flatten().filter(|it| !it.is_zero()).min() else {
        return Ok(Some(0));
    };
    let max_age = max_age.saturating_sub(MARGIN);
    let asking = stream::server_time(jetstream, &config.name)
        .map_err(|error| Failure::JetStream(format!("{error:#}")));
    let server_time = within(STREAM_TIMEOUT, asking).await?.unix_timestamp();
    let expired = TimeDelta::from_std(max_age)
        .ok()
        .and_then(|it| DateTime::from_timestamp(server_time, 0)?.checked_sub_signed(it));
    let Some(expired) = expired else {
        return Ok(Some(0));
    };
    let is_old = |at: Option<DateTime<_>>| at.is_some_and(|at| at <= expired);
    if is_old(now.published_at) {
        return Ok(None);
    }
    if !is_old(before.published_at) {
        return Ok(Some(0));
    }
    let published = store::published_before(pool, &config.name, max_age.as_secs_f64()).await?;
    Ok(published.map(|sequence| sequence + 1))
}

/// Those up to `last` that are not in `known`, which is in order; joined where they touch.
pub(super) fn unknown(
    missing: &[RangeInclusive<i64>],
    last: i64,
    known: &[RangeInclusive<i64>],
) -> Vec<RangeInclusive<i64>> {
    let mut found: Vec<RangeInclusive<i64>> = Vec::new();
    for range in missing {
        let mut first = *range.start();
        let end = (*range.end()).min(last);
        while first <= end {
            let next = known.partition_point(|it| *it.end() < first);
            let part = match known.get(next) {
                Some(known) if known.contains(&first) => {
                    first = known.end() + 1;
                    continue;
                }
                Some(known) => first..=end.min(known.start() - 1),
                None => first..=end,
            };
            first = part.end() + 1;
            match found.last_mut() {
                Some(found) if found.end() + 1 == *part.start() => {
                    *found = *found.start()..=*part.end();
                }
                _ => found.push(part),
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::unknown;

    #[test]
    fn what_is_known_or_beyond_the_end_is_left_out_and_neighbours_are_joined() {
        let missing = [1..=4, 6..=6, 7..=7, 9..=9, 12..=30];
        assert_eq!(unknown(&missing, 20, &[]), [1..=4, 6..=7, 9..=9, 12..=20]);
        let known = [2..=3, 9..=10, 14..=15];
        let left = [1..=1, 4..=4, 6..=7, 12..=13, 16..=20];
        assert_eq!(unknown(&missing, 20, &known), left);
        assert_eq!(unknown(&missing, 20, &[1..=20]), []);
    }
}
