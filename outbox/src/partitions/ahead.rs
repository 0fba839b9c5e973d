//! Partitions that stand ready before events need them.

use std::time::Duration;

use postgres_pool::{Pool, locks};

use super::{Partition, change_schema, is_overflow_used};

/// New partitions can't be attached while somebody's transaction has read the whole outbox (a dump,
/// say), so they stand ready for this long at the present rate of events, within these bounds.
const AHEAD_FOR: Duration = Duration::from_hours(6);
const MIN_AHEAD: i64 = 8;
const MAX_AHEAD: i64 = 64;
/// While partitions are attached beside an overflow that is in use, it must not get events with their
/// ids. This many partitions' worth of ids lie between, for the time that attaching may take.
const ROOM: i64 = 8;
const OVERFLOW: &str = "outbox.event_overflow";
const ADMIT: &str =
    "alter table outbox.event_overflow drop constraint if exists event_overflow_ids";

/// Keeps partitions ready ahead of the events.
pub(super) async fn make_next(
    pool: &Pool,
    existing: &[Partition],
    events: i64,
) -> sqlx::Result<()> {
    let drawn = sqlx::query_scalar!("select last_value from outbox.event_id_seq")
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
    let rate = sqlx::query_scalar!(
        r#"
        select ($1::bigint - id)::float8
            / greatest(extract(epoch from clock_timestamp() - created_at), 1)::float8 as "rate!"
        from outbox.event where id > $1::bigint - $2::bigint order by id limit 1
        "#,
        drawn,
        events,
    )
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
/// on. It locks the overflow, though, and reads all of it to see that nothing in it belongs to the
/// new partition: at no cost while it is empty, as it should be.
async fn attach(pool: &Pool, partitions: &[Partition]) -> sqlx::Result<()> {
    let create = |partition: &Partition| {
        let name = partition.name();
        format!(
            "create table if not exists outbox.{name}
             (like outbox.event including defaults including indexes including constraints)"
        )
    };
    let creates: Vec<_> = partitions.iter().map(create).collect();
    change_schema(pool, &creates).await?;
    let attach = |partition: &Partition| {
        let Partition { from, to } = partition;
        let name = partition.name();
        format!(
            "alter table outbox.event attach partition outbox.{name}
             for values from ({from}) to ({to})"
        )
    };
    let mut changes: Vec<_> = partitions.iter().map(attach).collect();
    if !is_overflow_used(pool).await? {
        return change_schema(pool, &changes).await;
    }
    changes.push(ADMIT.to_owned());
    let attached = match exclude_from_overflow(pool, partitions).await {
        Ok(()) => change_schema(pool, &changes).await,
        Err(error) => Err(error),
    };
    if attached.is_err() {
        // Left behind, the constraint would refuse events that get that far before the next round.
        change_schema(pool, &[ADMIT.to_owned()]).await?;
    }
    attached
}

/// A constraint that is checked while writers go on shows that the overflow has nothing of these
/// partitions, so that attaching them does not read it under a lock.
async fn exclude_from_overflow(pool: &Pool, partitions: &[Partition]) -> sqlx::Result<()> {
    let from = partitions.iter().map(|it| it.from).min().unwrap_or(0);
    let to = partitions.iter().map(|it| it.to).max().unwrap_or(0);
    let exclude = format!(
        "alter table {OVERFLOW} drop constraint if exists event_overflow_ids,
         add constraint event_overflow_ids check (id < {from} or id >= {to}) not valid"
    );
    change_schema(pool, &[exclude]).await?;
    // Dynamic SQL: the constraint is not there when the macros look.
    sqlx::query("alter table outbox.event_overflow validate constraint event_overflow_ids")
        .execute(pool)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::partitions_ahead;

    #[test]
    fn more_partitions_stand_ready_the_more_events_come() {
        assert_eq!(partitions_ahead(0.0, 1_000_000), 8);
        assert_eq!(partitions_ahead(1_000.0, 1_000_000), 22);
        assert_eq!(partitions_ahead(1_000_000.0, 1_000_000), 64);
    }
}
