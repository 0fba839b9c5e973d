//! Which messages are gone that should be there.

use std::{ops::RangeInclusive, time::Duration};

use async_nats::jetstream::{Context, stream::Info};
use chrono::{DateTime, TimeDelta};
use futures::TryFutureExt;
use postgres_pool::Pool;
use service_runtime::nats::Topic;

use super::{
    server_time::server_time,
    store::{self, Beginning},
};
use crate::relay::{
    STREAM_TIMEOUT,
    cursor::{self, Owned},
    failure::{Failure, within},
    stream_info::{self, first_sequence},
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
        topic: &Topic,
        owned: &Owned,
    ) -> Result<Vec<RangeInclusive<i64>>, Failure> {
        let stream = &topic.stream;
        // Asked before the stream: what stands there later is not taken for missing.
        let tail = cursor::load(pool, stream).await?.tail.sequence;
        let info = self.info(jetstream, stream).await?;
        let known = store::missing(pool, stream).await?;
        let mut missing = from_the_beginning(pool, jetstream, owned, &info, tail, &known).await?;
        let deleted = info.state.deleted.unwrap_or_default();
        let last_deleted = deleted.last().map_or(0, |it| it.cast_signed());
        let deleted: Vec<_> = (deleted.iter())
            .map(|it| it.cast_signed()..=it.cast_signed())
            .collect();
        missing.extend(unknown(&deleted, tail, &known));
        missing.truncate(MOST);
        let counts = (
            info.state.deleted_count.unwrap_or_default(),
            info.state.first_sequence,
        );
        self.seen = (missing.is_empty() && last_deleted <= tail).then_some(counts);
        Ok(missing)
    }

    async fn info(&mut self, jetstream: &Context, stream: &str) -> Result<Info, Failure> {
        let asking = async {
            let failed = |error: &dyn std::fmt::Display| Failure::JetStream(error.to_string());
            let stream = jetstream
                .get_stream(stream)
                .map_err(|it| failed(&it))
                .await?;
            let info = stream.cached_info();
            let deleted = info.state.deleted_count.unwrap_or_default();
            let seen = (deleted, info.state.first_sequence);
            if deleted == 0 || self.seen == Some(seen) {
                return Ok::<_, Failure>(info.clone());
            }
            let detailed = stream.info_builder().with_deleted(true).fetch();
            let detailed = detailed.map_err(|it| failed(&it)).await?.info;
            Ok(detailed)
        };
        within(STREAM_TIMEOUT, asking).await
    }
}

/// What has left the beginning since the last look, was not old enough for that, and is not known yet.
async fn from_the_beginning(
    pool: &Pool,
    jetstream: &Context,
    owned: &Owned,
    info: &Info,
    tail: i64,
    known: &[RangeInclusive<i64>],
) -> Result<Vec<RangeInclusive<i64>>, Failure> {
    let state = &info.state;
    let first = first_sequence(info);
    let now = Beginning {
        sequence: Some(first),
        published_at: DateTime::from_timestamp(state.first_timestamp.unix_timestamp(), 0)
            .filter(|_| state.messages > 0),
        max_age_seconds: Some(info.config.max_age.as_secs_f64()),
    };
    let before = store::beginning(pool, &owned.stream).await?;
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
    if missing.is_empty() && reaches <= tail && !before.is_same(now) {
        store::save_beginning(pool, owned, now).await?;
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
    let server_time = server_time(jetstream, &config.name).await?;
    let expired = TimeDelta::from_std(max_age)
        .ok()
        .and_then(|it| server_time.checked_sub_signed(it));
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
