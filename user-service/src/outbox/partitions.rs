//! The ledger's partitions: made ahead of need, dropped when they are old and done.

use std::time::Duration;

use sqlx::AssertSqlSafe;

use super::locks;
use crate::database::Pool;

/// New partitions can't be attached while somebody's transaction has read the whole outbox (a dump,
/// say), so they stand ready for this long at the present rate of events, within these bounds.
const AHEAD_FOR: Duration = Duration::from_hours(6);
const MIN_AHEAD: i64 = 8;
const MAX_AHEAD: i64 = 64;
/// While partitions are attached, the overflow must not get events with their ids. Should it be in
/// use, this many partitions' worth of ids are left out.
const ROOM: i64 = 8;
/// Attaching or dropping waits this long for readers and writers, then leaves it for the next
/// round: what waits for such a lock makes others wait behind it.
const LOCK_TIMEOUT: &str = "set local lock_timeout = '100ms'";
/// Rows that the overflow loses in one round.
const OVERFLOW_BATCH: i64 = 10_000;

const OVERFLOW: &str = "outbox_overflow";
const ADMIT: &str = "alter table outbox_overflow drop constraint if exists outbox_overflow_ids";

/// How the ledger is kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retention {
    /// Events stay at least this long, however far the cursor is.
    pub(crate) keep: Duration,
    /// Ids in a partition that is made from now on.
    pub(crate) partition_events: i64,
}

/// A partition for the ids from `from` (inclusive) to `to` (exclusive).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Partition {
    from: i64,
    to: i64,
}

impl Partition {
    fn name(self) -> String {
        format!("outbox_{}_{}", self.from, self.to)
    }

    fn from_name(name: &str) -> Option<Self> {
        let (from, to) = name.strip_prefix("outbox_")?.split_once('_')?;
        Some(Self {
            from: from.parse().ok()?,
            to: to.parse().ok()?,
        })
    }
}

/// Makes the partitions that will be needed next and drops those that are done: behind the
/// cursor, and older than the retention.
pub(crate) async fn maintain(pool: &Pool, retention: Retention) -> sqlx::Result<()> {
    let partitions = existing(pool).await?;
    make_next(pool, &partitions, retention.partition_events).await?;
    drop_done(pool, &partitions, retention.keep).await?;
    sqlx::query(
        "delete from relay_checkpoint where saved_at < clock_timestamp() - $1 * interval '1 second'",
    )
    .bind(retention.keep.as_secs_f64())
    .execute(pool)
    .await?;
    Ok(())
}

/// In the order of their ids.
async fn existing(pool: &Pool) -> sqlx::Result<Vec<Partition>> {
    let names: Vec<String> = sqlx::query_scalar(
        r"
        select relname::text from pg_inherits
        join pg_class on pg_class.oid = inhrelid
        where inhparent = 'outbox'::regclass
        ",
    )
    .fetch_all(pool)
    .await?;
    let mut partitions: Vec<_> = (names.iter())
        .filter_map(|name| Partition::from_name(name))
        .collect();
    partitions.sort_by_key(|partition| partition.from);
    Ok(partitions)
}

/// Keeps partitions ready ahead of the events.
async fn make_next(pool: &Pool, existing: &[Partition], events: i64) -> sqlx::Result<()> {
    let drawn: i64 = sqlx::query_scalar("select last_value from outbox_id_seq")
        .fetch_one(pool)
        .await?;
    let ahead = partitions_ahead(rate(pool, drawn, events).await?, events);
    let mut top = existing.last().map_or(1, |partition| partition.to);
    if top <= drawn {
        // Ids of this partition are in the overflow already: leave room, never move rows.
        top = drawn + ROOM * events;
    }
    let mut next = Vec::new();
    while top <= drawn + ahead * events {
        let (from, to) = (top, top + events);
        next.push(Partition { from, to });
        top = to;
    }
    if next.is_empty() {
        return Ok(());
    }
    if locks::is_held_for_long(pool, OVERFLOW).await? {
        let ready = next[0].from - drawn;
        if ready < events * MIN_AHEAD / 2 {
            tracing::warn!(
                ids_left = ready,
                "a long transaction that has read the outbox keeps new partitions from being made"
            );
        }
        return Ok(());
    }
    attach(pool, &next).await?;
    tracing::debug!(
        partitions = next.len(),
        up_to_id = top,
        "made partitions of the outbox"
    );
    Ok(())
}

/// Events in a second, over the last partition's worth of them.
async fn rate(pool: &Pool, drawn: i64, events: i64) -> sqlx::Result<f64> {
    let rate: Option<f64> = sqlx::query_scalar(
        r"
        select ($1 - id)::float8 / greatest(extract(epoch from clock_timestamp() - created_at), 1)::float8
        from outbox where id > $1 - $2 order by id limit 1
        ",
    )
    .bind(drawn)
    .bind(events)
    .fetch_optional(pool)
    .await?;
    Ok(rate.unwrap_or(0.0))
}

fn partitions_ahead(rate: f64, events: i64) -> i64 {
    let needed = rate * AHEAD_FOR.as_secs_f64() / events as f64;
    #[expect(clippy::cast_possible_truncation, reason = "within small bounds")]
    let needed = needed.ceil().clamp(MIN_AHEAD as f64, MAX_AHEAD as f64) as i64;
    needed
}

/// Attaching a table takes a weaker lock on the outbox than creating it as a partition: writers go
/// on. It locks the overflow, though, and would read all of it to see that nothing in it belongs to
/// the new partition, unless a constraint says so, which is checked while writers go on.
async fn attach(pool: &Pool, partitions: &[Partition]) -> sqlx::Result<()> {
    let (Some(first), Some(last)) = (partitions.first(), partitions.last()) else {
        return Ok(());
    };
    let create = |partition: &Partition| {
        let name = partition.name();
        format!(
            "create table if not exists {name} (like outbox including defaults including indexes)"
        )
    };
    let creates: Vec<_> = partitions.iter().map(create).collect();
    change_schema(pool, &creates).await?;
    let (from, to) = (first.from, last.to);
    let exclude = format!(
        "alter table {OVERFLOW} drop constraint if exists outbox_overflow_ids,
         add constraint outbox_overflow_ids check (id < {from} or id >= {to}) not valid"
    );
    change_schema(pool, &[exclude]).await?;
    let attached = attach_excluded(pool, partitions).await;
    if attached.is_err() {
        // Left behind it would refuse events, should they get that far before the next round.
        change_schema(pool, &[ADMIT.to_owned()]).await?;
    }
    attached
}

async fn attach_excluded(pool: &Pool, partitions: &[Partition]) -> sqlx::Result<()> {
    sqlx::query("alter table outbox_overflow validate constraint outbox_overflow_ids")
        .execute(pool)
        .await?;
    let attach = |partition: &Partition| {
        let Partition { from, to } = partition;
        let name = partition.name();
        format!("alter table outbox attach partition {name} for values from ({from}) to ({to})")
    };
    let mut changes: Vec<_> = partitions.iter().map(attach).collect();
    changes.push(ADMIT.to_owned());
    change_schema(pool, &changes).await
}

async fn drop_done(pool: &Pool, existing: &[Partition], keep: Duration) -> sqlx::Result<()> {
    let keep = keep.as_secs_f64();
    // Whatever is below this id is on the stream or parked. The last event stays: by it the relay
    // knows the ledger.
    let done_below: i64 = sqlx::query_scalar(
        r"
        select least((select min(lower(gap)) from unnest(gaps) as gap), last_id)
        from relay_cursor
        ",
    )
    .fetch_one(pool)
    .await?;
    for partition in existing.iter().filter(|it| it.to <= done_below) {
        if !is_old(pool, *partition, keep).await? {
            break;
        }
        if locks::is_held_for_long(pool, "outbox").await? {
            tracing::debug!("a long transaction that has read the outbox keeps old events");
            break;
        }
        change_schema(pool, &[format!("drop table {}", partition.name())]).await?;
        tracing::info!(
            partition = partition.name(),
            "dropped old events of the outbox"
        );
    }
    sqlx::query(
        r"
        delete from outbox_overflow where id in (
            select id from outbox_overflow
            where id < $1 and created_at < clock_timestamp() - $2 * interval '1 second'
            order by id limit $3
        )
        ",
    )
    .bind(done_below)
    .bind(keep)
    .bind(OVERFLOW_BATCH)
    .execute(pool)
    .await?;
    Ok(())
}

/// Whether even the last event is older than `keep` seconds.
async fn is_old(pool: &Pool, partition: Partition, keep: f64) -> sqlx::Result<bool> {
    let last = format!(
        "select created_at < clock_timestamp() - $1 * interval '1 second'
         from {} order by id desc limit 1",
        partition.name()
    );
    let is_old: Option<bool> = sqlx::query_scalar(AssertSqlSafe(last))
        .bind(keep)
        .fetch_optional(pool)
        .await?;
    Ok(is_old.unwrap_or(true))
}

/// All of it or nothing. The statements hold nothing but names and numbers of ours.
async fn change_schema(pool: &Pool, statements: &[String]) -> sqlx::Result<()> {
    let mut transaction = pool.begin().await?;
    sqlx::query(LOCK_TIMEOUT).execute(&mut *transaction).await?;
    for statement in statements {
        sqlx::raw_sql(AssertSqlSafe(statement.as_str()))
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await
}

#[cfg(test)]
mod tests {
    use super::{Partition, partitions_ahead};

    #[test]
    fn more_partitions_stand_ready_the_more_events_come() {
        assert_eq!(partitions_ahead(0.0, 1_000_000), 8);
        assert_eq!(partitions_ahead(1_000.0, 1_000_000), 22);
        assert_eq!(partitions_ahead(1_000_000.0, 1_000_000), 64);
    }

    #[test]
    fn a_partition_is_known_by_its_name() {
        let partition = Partition {
            from: 1,
            to: 1_000_001,
        };
        assert_eq!(partition.name(), "outbox_1_1000001");
        assert_eq!(Partition::from_name(&partition.name()), Some(partition));
        for other in ["outbox_overflow", "outbox_parked", "outbox_1_", "users"] {
            assert_eq!(Partition::from_name(other), None, "{other}");
        }
    }
}
