//! Events that `JetStream` refuses for what they are.

use sqlx::PgPool;

use super::{
    cursor::{self, CursorError},
    lease::Lease,
};

/// Sets the event aside with its reason and moves the cursor past it, in one transaction: it
/// holds up no other event from here on.
pub(super) async fn park(
    pool: &PgPool,
    lease: &Lease,
    id: i64,
    reason: &str,
    attempts: u32,
) -> Result<(), CursorError> {
    let mut transaction = pool.begin().await?;
    let mut cursor = cursor::load(&mut *transaction).await?;
    cursor.position.pass(id);
    cursor::save(&mut *transaction, lease, &cursor).await?;
    sqlx::query(
        r"
        insert into outbox_parked (id, event_id, type, user_id, version, payload, traceparent,
                                   created_at, reason, attempts)
        select id, event_id, type, user_id, version, payload, traceparent, created_at, $2, $3
        from outbox where id = $1
        on conflict (id) do update
        set reason = excluded.reason, attempts = excluded.attempts, parked_at = clock_timestamp()
        ",
    )
    .bind(id)
    .bind(reason)
    .bind(i64::from(attempts))
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}
