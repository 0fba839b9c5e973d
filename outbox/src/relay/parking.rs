//! Setting an event aside that `JetStream` refuses for what it is.

use postgres_pool::Pool;

use super::{
    cursor::{self, CursorError},
    lease::Lease,
};
use crate::{ledger, parked};

/// Parks the event with its reason and moves the cursor past it, in one transaction: it holds up
/// no other event from here on.
pub(super) async fn park(
    pool: &Pool,
    lease: &Lease,
    id: i64,
    reason: &str,
    attempts: i32,
) -> Result<(), CursorError> {
    let mut transaction = pool.begin().await?;
    let mut cursor = cursor::load(&mut *transaction).await?;
    if let Some(event) = ledger::find(&mut *transaction, id).await? {
        cursor.pass(id, event.event_id);
    }
    cursor::save(&mut *transaction, lease, &cursor).await?;
    parked::park(&mut *transaction, id, reason, attempts).await?;
    transaction.commit().await?;
    Ok(())
}
