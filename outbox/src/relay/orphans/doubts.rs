//! What can't be told any more, and is left to an operator.

use super::{Lookup, Saved};
use crate::relay::{failure::Failure, start::Start};

/// Of messages that have left the stream nothing can be told: an operator has to compare.
pub(super) async fn note(
    lookup: Lookup<'_>,
    start: &Start,
    saved: &Saved,
    from: u64,
    first: u64,
) -> Result<(), Failure> {
    let owned = lookup.owned;
    let is_other_database =
        (saved.database_identity.as_ref()).is_some_and(|it| *it != owned.identity);
    let reason = if start.lost.on_stream && (is_other_database || start.lost.in_ledger) {
        "the stream has lost events, and the database is another one than before"
    } else if !start.lost.on_stream && first > from + 1 {
        "messages that were published after what the database knows of have left the stream"
    } else {
        return Ok(());
    };
    let mut transaction = lookup.pool.begin().await?;
    owned.hold(&mut transaction).await?;
    let is_known = sqlx::query_scalar!(
        r#"
        update outbox.cursor as cursor
        set unreconciled_since = coalesce(cursor.unreconciled_since, clock_timestamp())
        from outbox.cursor as before
        where cursor.stream = $1 and before.stream = cursor.stream
        returning before.unreconciled_since is not null as "is_known!"
        "#,
        owned.stream,
    )
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    if !is_known {
        tracing::error!(
            stream = owned.stream,
            reason,
            database_knows_up_to_sequence = from,
            first_sequence = first,
            "consumers may have events that the database does not have: compare their copies, as by \
             `notification-service verify --repair`, then run `outbox-relay reconciled {}`",
            owned.stream
        );
    }
    Ok(())
}
