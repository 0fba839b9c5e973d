//! Setting events aside: that `JetStream` refuses for what they are, or that have no route.

use postgres_pool::Pool;
use uuid::Uuid;

use super::{cursor, failure::Failure, owned::Owned};
use crate::{ledger, parked};

/// What is known of an event that was parked.
pub(super) struct Event {
    pub(super) id: Option<Uuid>,
    /// Of what created it.
    pub(super) traceparent: Option<String>,
}

/// Parks the event with its reason and moves the cursor past it, in one transaction: it holds up
/// no other event from here on.
pub(super) async fn park(
    pool: &Pool,
    owned: &Owned,
    id: i64,
    reason: &str,
    attempts: i32,
) -> Result<Event, Failure> {
    let mut transaction = pool.begin().await?;
    let mut cursor = cursor::load(&mut *transaction, &owned.stream).await?;
    let event_id = ledger::event_id(&mut *transaction, id).await?;
    if let Some(event_id) = event_id {
        cursor.pass(id..id + 1, event_id);
    }
    cursor::save(&mut *transaction, owned, &cursor).await?;
    let traceparent = parked::park(&mut *transaction, id, reason, attempts).await?;
    transaction.commit().await?;
    Ok(Event {
        id: event_id,
        traceparent,
    })
}

/// Sets events aside whose aggregate types have no route; false if another session has begun.
pub(super) async fn park_unrouted(pool: &Pool, owned: &Owned, ids: &[i64]) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        with held as (
            select from outbox.cursor
            where stream = $2 and epoch = $3 and session = $5 and outbox.database_identity() = $4
        ), parked as (
            insert into outbox.parked (id, event_id, aggregate_type, aggregate_id, event_type,
                                       version, payload, headers, created_at, reason, attempts)
            select event.id, event_id, aggregate_type, aggregate_id, event_type, version,
                   payload, headers, created_at, 'no route for the aggregate type', 0
            from unnest($1::bigint[]) as wanted (id)
            cross join lateral (select * from outbox.event where id = wanted.id offset 0) as event
            where exists (select from held)
            on conflict (id) do nothing
        )
        select exists (select from held) as "is_held!"
        "#,
        ids,
        owned.stream,
        owned.epoch,
        owned.identity,
        owned.session,
    )
    .fetch_one(pool)
    .await
}
