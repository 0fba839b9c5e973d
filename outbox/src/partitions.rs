//! The ledger's partitions: made ahead of need, dropped when they are old and done.

mod ahead;

use std::time::Duration;

use postgres_pool::{Pool, locks};
use sqlx::AssertSqlSafe;

/// Attaching or dropping waits this long for readers and writers, then leaves it for the next
/// round: what waits for such a lock makes others wait behind it.
const LOCK_TIMEOUT: &str = "set local lock_timeout = '100ms'";
/// Rows that the overflow loses in one round.
const OVERFLOW_BATCH: i64 = 10_000;

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
        format!("event_{}_{}", self.from, self.to)
    }

    fn from_name(name: &str) -> Option<Self> {
        let (from, to) = name.strip_prefix("event_")?.split_once('_')?;
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
    ahead::make_next(pool, &partitions, retention.partition_events).await?;
    drop_done(pool, &partitions, retention.keep).await?;
    sqlx::query!(
        r"
        delete from outbox.checkpoint
        where saved_at < clock_timestamp() - $1::float8 * interval '1 second'
        ",
        retention.keep.as_secs_f64(),
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// In the order of their ids.
async fn existing(pool: &Pool) -> sqlx::Result<Vec<Partition>> {
    let names = sqlx::query_scalar!(
        r#"
        select relname::text as "name!" from pg_inherits
        join pg_class on pg_class.oid = inhrelid
        where inhparent = 'outbox.event'::regclass
        "#,
    )
    .fetch_all(pool)
    .await?;
    let mut partitions: Vec<_> = (names.iter())
        .filter_map(|name| Partition::from_name(name))
        .collect();
    partitions.sort_by_key(|partition| partition.from);
    Ok(partitions)
}

async fn drop_done(pool: &Pool, existing: &[Partition], keep: Duration) -> sqlx::Result<()> {
    let keep = keep.as_secs_f64();
    // Whatever is below this id is on its stream or parked. The last event stays: by it the relay
    // knows the ledger.
    let done_below = sqlx::query_scalar!(
        r#"
        select coalesce(
            min(least((select min(lower(gap)) from unnest(gaps) as gap), last_id)), 0
        ) as "id!"
        from outbox.cursor
        "#,
    )
    .fetch_one(pool)
    .await?;
    for partition in existing.iter().filter(|it| it.to <= done_below) {
        if !is_old(pool, *partition, keep).await? {
            break;
        }
        if locks::is_held_for_long(pool, "outbox.event").await? {
            tracing::debug!("a long transaction that has read the outbox keeps old events");
            break;
        }
        note_ledger_from(pool, partition.to).await?;
        change_schema(pool, &[format!("drop table outbox.{}", partition.name())]).await?;
        tracing::info!(
            partition = partition.name(),
            "dropped old events of the outbox"
        );
    }
    sqlx::query!(
        r"
        with done as (
            select id from outbox.event_overflow
            where id < $1 and created_at < clock_timestamp() - $2::float8 * interval '1 second'
            order by id limit $3
        ), noted as (
            update outbox.ledger
            set ledger_from = greatest(ledger_from, (select max(id) + 1 from done))
            where exists (select from done)
        )
        delete from outbox.event_overflow where id in (select id from done)
        ",
        done_below,
        keep,
        OVERFLOW_BATCH,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Events below this id are about to be dropped. First, so that nobody counts on them.
async fn note_ledger_from(pool: &Pool, id: i64) -> sqlx::Result<()> {
    sqlx::query!(
        "update outbox.ledger set ledger_from = $1 where ledger_from < $1",
        id,
    )
    .execute(pool)
    .await
    .map(drop)
}

/// Whether even the last event is older than `keep` seconds. Dynamic SQL: the table's name is
/// computed.
async fn is_old(pool: &Pool, partition: Partition, keep: f64) -> sqlx::Result<bool> {
    let last = format!(
        "select created_at < clock_timestamp() - $1 * interval '1 second'
         from outbox.{} order by id desc limit 1",
        partition.name()
    );
    let is_old: Option<bool> = sqlx::query_scalar(AssertSqlSafe(last))
        .bind(keep)
        .fetch_optional(pool)
        .await?;
    Ok(is_old.unwrap_or(true))
}

/// All of it or nothing. Dynamic SQL, because names and bounds of tables are no parameters; the
/// statements hold nothing but names and numbers of ours.
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
    use super::Partition;

    #[test]
    fn a_partition_is_known_by_its_name() {
        let partition = Partition {
            from: 1,
            to: 1_000_001,
        };
        assert_eq!(partition.name(), "event_1_1000001");
        assert_eq!(Partition::from_name(&partition.name()), Some(partition));
        for other in ["event_overflow", "parked", "event_1_", "users"] {
            assert_eq!(Partition::from_name(other), None, "{other}");
        }
    }
}
