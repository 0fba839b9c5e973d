//! Setting an event aside that `JetStream` refuses for what it is.

use postgres_pool::Pool;
use uuid::Uuid;

use super::cursor::{self, CursorError, Owned};
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
) -> Result<Event, CursorError> {
    let mut transaction = pool.begin().await?;
    let mut cursor = cursor::load(&mut *transaction, &owned.stream).await?;
    let saved = cursor.clone();
    let event_id = ledger::event_id(&mut *transaction, id).await?;
    if let Some(event_id) = event_id {
        cursor.pass(id..id + 1, event_id);
    }
    cursor::save(&mut *transaction, owned, &saved, &cursor).await?;
    let traceparent = parked::park(&mut *transaction, id, reason, attempts).await?;
    transaction.commit().await?;
    Ok(Event {
        id: event_id,
        traceparent,
    })
}
