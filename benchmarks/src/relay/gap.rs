//! What an event costs while an id before it is missing, in a ledger that keeps many published events.

use anyhow::Context;
use sqlx::AssertSqlSafe;

use crate::{report::Report, stack::Stack};

/// As the relay makes them.
const PARTITION_EVENTS: i64 = 1_000_000;

pub(super) async fn run(
    retained: i64,
    events: i64,
    rounds: usize,
    report: &mut Report,
) -> anyhow::Result<()> {
    let stack = Stack::new().await?;
    make_partitions(&stack, retained + 2 * events * rounds as i64).await?;
    stack.fill_outbox(retained, 1).await?;
    sqlx::query("insert into outbox.cursor (stream, last_id) select $1, max(id) from outbox.event")
        .bind(&stack.stream)
        .execute(stack.pool())
        .await?;
    let (mut without, mut with) = (vec![], vec![]);
    for _ in 0..rounds {
        without.push(microseconds(&stack, events).await?);
        // Draws an id and neither commits nor rolls back while the others are published.
        let mut open = stack.pool().begin().await?;
        let draw = "insert into outbox.event (aggregate_type, aggregate_id, event_type, payload)
                    values ('user', '0', 'user_created', '{}')";
        sqlx::query(draw).execute(&mut *open).await?;
        with.push(microseconds(&stack, events).await?);
        open.rollback().await?;
    }
    report.add(format!("an event with {retained} retained"), "µs", &without);
    report.add_beside(
        format!("an event with {retained} retained and an open gap"),
        "µs",
        &with,
        ("that without a gap", &without),
    );
    Ok(())
}

/// Above the first one, which the migration makes.
async fn make_partitions(stack: &Stack, events: i64) -> sqlx::Result<()> {
    let create = format!(
        r"
        do $$ begin
            for n in 1..{} loop
                execute format(
                    'create table outbox.event_%1$s_%2$s partition of outbox.event
                     for values from (%1$s) to (%2$s)',
                    n * {PARTITION_EVENTS} + 1, (n + 1) * {PARTITION_EVENTS} + 1
                );
            end loop;
        end $$
        ",
        events / PARTITION_EVENTS
    );
    sqlx::raw_sql(AssertSqlSafe(create))
        .execute(stack.pool())
        .await?;
    Ok(())
}

/// What each of so many new events costs, by JetStream's clock, from the first one stored to the last.
async fn microseconds(stack: &Stack, events: i64) -> anyhow::Result<f64> {
    stack.fill_outbox(events, 1).await?;
    let mut relay = stack.start("user-service", &["relay"]);
    stack.drained().await;
    relay.process.stop().await;
    let stream = stack.stream().await?;
    let last = stream.cached_info().state.last_sequence;
    let first = (last + 1).checked_sub(events.unsigned_abs());
    let first = first.context("all events are on the stream")?;
    let (first, last) = (
        stream.get_raw_message(first).await?,
        stream.get_raw_message(last).await?,
    );
    let seconds = (last.time - first.time).as_seconds_f64();
    Ok(seconds * 1e6 / events as f64)
}
