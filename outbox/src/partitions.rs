//! The ledger's partitions: made ahead of need, dropped when they are old and done.

mod ahead;

use std::time::Duration;

use postgres_pool::{Pool, Transaction, locks};
use sqlx::{AssertSqlSafe, PgExecutor};

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
    /// Checkpoints stay at least this long: as long as the messages of which they tell.
    pub(crate) keep_checkpoints: Duration,
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
    forget_checkpoints(pool, retention.keep_checkpoints).await?;
    forget_orphans(pool, retention.keep).await
}

/// Except for the newest of those that are too old: below it begins what may still be on the stream.
async fn forget_checkpoints(pool: &Pool, keep: Duration) -> sqlx::Result<()> {
    sqlx::query!(
        r"
        delete from outbox.checkpoint using (
            select stream, max(stream_sequence) as stream_sequence from outbox.checkpoint
            where saved_at < clock_timestamp() - $1::float8 * interval '1 second'
            group by stream
        ) as newest
        where checkpoint.stream = newest.stream
            and checkpoint.stream_sequence < newest.stream_sequence
        ",
        keep.as_secs_f64(),
    )
    .execute(pool)
    .await
    .map(drop)
}

/// Of which nothing waits any more that is superseded.
async fn forget_orphans(pool: &Pool, keep: Duration) -> sqlx::Result<()> {
    sqlx::query!(
        r"
        delete from outbox.orphan using outbox.cursor
        where orphan.stream = cursor.stream
            and restated_at < clock_timestamp() - $1::float8 * interval '1 second'
            and superseded_through <= last_id
            and not exists (
                select from unnest(gaps) as gap where lower(gap) <= superseded_through
            )
        ",
        keep.as_secs_f64(),
    )
    .execute(pool)
    .await
    .map(drop)
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
    let done = done_below(pool).await?;
    for partition in existing.iter().filter(|it| it.to <= done) {
        if !is_old(pool, *partition, keep).await? {
            break;
        }
        if locks::is_held_for_long(pool, "outbox.event").await? {
            tracing::debug!("a long transaction that has read the outbox keeps old events");
            break;
        }
        if !drop_partition(pool, *partition).await? {
            break;
        }
        tracing::info!(
            partition = partition.name(),
            "dropped old events of the outbox"
        );
    }
    if is_overflow_used(pool).await? {
        empty_overflow(pool, keep).await?;
    }
    Ok(())
}

/// Whatever is below this id is on its stream or parked. The last event stays: by it the relay knows
/// the ledger. What a stream has lost may not be among the cursor's gaps yet.
async fn done_below(db: impl PgExecutor<'_>) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"
        select coalesce(min(least(
            last_id,
            (select min(lower(gap)) from unnest(gaps) as gap),
            (
                select min(lower(lost)) from outbox.stream_loss as loss, unnest(ids) as lost
                where loss.stream = cursor.stream and refilled_through is null
            )
        )), 0) as "id!"
        from outbox.cursor
        "#,
    )
    .fetch_one(db)
    .await
}

/// A transaction in which no cursor moves back, and no stream begins, before events are gone.
async fn with_cursors_held(pool: &Pool) -> sqlx::Result<Transaction> {
    let mut transaction = pool.begin().await?;
    sqlx::query(LOCK_TIMEOUT).execute(&mut *transaction).await?;
    sqlx::query("lock table outbox.cursor in share mode")
        .execute(&mut *transaction)
        .await?;
    Ok(transaction)
}

/// False if a cursor has moved back meanwhile. Dynamic SQL: the table's name is computed.
async fn drop_partition(pool: &Pool, partition: Partition) -> sqlx::Result<bool> {
    let mut transaction = with_cursors_held(pool).await?;
    if partition.to > done_below(&mut *transaction).await? {
        return Ok(false);
    }
    sqlx::query!(
        "update outbox.ledger set ledger_from = $1 where ledger_from < $1",
        partition.to,
    )
    .execute(&mut *transaction)
    .await?;
    let drop = format!("drop table outbox.{}", partition.name());
    sqlx::raw_sql(AssertSqlSafe(drop))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(true)
}

async fn is_overflow_used(pool: &Pool) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"select exists (select from outbox.event_overflow) as "is_used!""#)
        .fetch_one(pool)
        .await
}

async fn empty_overflow(pool: &Pool, keep: f64) -> sqlx::Result<()> {
    let mut transaction = with_cursors_held(pool).await?;
    let done = done_below(&mut *transaction).await?;
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
        done,
        keep,
        OVERFLOW_BATCH,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
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
    use std::time::Duration;

    use sqlx::PgPool;

    use super::{Partition, Retention, existing, maintain};
    use crate::tests;

    const PARTITIONS: &str = "
        drop table outbox.event_1_1000001;
        create table outbox.event_1_11 partition of outbox.event for values from (1) to (11);
        create table outbox.event_11_21 partition of outbox.event for values from (11) to (21);
        insert into outbox.event (aggregate_type, aggregate_id, event_type, payload)
        select 'account', '1', 'changed', '{}' from generate_series(1, 20);
        insert into outbox.cursor (stream, last_id) values ('ACCOUNTS', 20);
    ";

    async fn execute(pool: &PgPool, statements: &'static str) {
        let executed = sqlx::raw_sql(statements).execute(pool).await;
        executed.expect("statements that run");
    }

    #[tokio::test]
    async fn events_of_lost_messages_stay_until_they_are_on_the_stream_again() {
        let database = tests::create_database().await;
        let (pool, _) = tests::pool_of(&database).await;
        execute(&database.pool, PARTITIONS).await;
        let loss = "insert into outbox.stream_loss (stream, first_sequence, last_sequence, ids, is_complete)
                    values ('ACCOUNTS', 3, 4, array['[3,5)']::int8range[], true)";
        execute(&database.pool, loss).await;
        let retention = Retention {
            keep: Duration::ZERO,
            keep_checkpoints: Duration::ZERO,
            partition_events: 10,
        };
        let first = Partition { from: 1, to: 11 };
        maintain(&pool, retention).await.expect("a round");
        let kept = existing(&pool).await.expect("partitions");
        assert_eq!(kept.first(), Some(&first));

        execute(
            &database.pool,
            "update outbox.stream_loss set refilled_through = 30",
        )
        .await;
        maintain(&pool, retention).await.expect("a round");
        let kept = existing(&pool).await.expect("partitions");
        assert!(!kept.contains(&first), "{kept:?}");
    }

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
