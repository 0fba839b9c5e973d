//! What can't be told any more, and is left to an operator.

use postgres_pool::{Connection, Pool};

use super::{failure::Failure, owned::Owned};

const BOTH_LOST: &str =
    "the stream has lost events, and the database is another one than before or was restored";
const GONE: &str =
    "messages that were published after what the database knows of have left the stream";
pub(super) const WITHOUT_VERSION: &str =
    "events that the database does not have do not say their versions";

/// Of messages that have left the stream nothing can be told: an operator has to compare.
pub(super) async fn note_gone(pool: &Pool, owned: &Owned) -> Result<(), Failure> {
    let mut transaction = pool.begin().await?;
    owned.hold(&mut transaction).await?;
    let is_new = unreconciled(&mut transaction, &owned.stream).await?;
    transaction.commit().await?;
    if is_new {
        report(&owned.stream, GONE);
    }
    Ok(())
}

/// If the stream has lost events, and the ledger as well, nobody knows what both had. Whether to
/// [report](report_both) it.
pub(super) async fn note_both(
    transaction: &mut Connection,
    owned: &Owned,
    is_ledger_restored: bool,
) -> sqlx::Result<bool> {
    let is_other_database = sqlx::query_scalar!(
        r#"
        select coalesce(database_identity <> $2, false) as "is_other!"
        from outbox.cursor where stream = $1
        "#,
        owned.stream,
        owned.identity,
    )
    .fetch_one(&mut *transaction)
    .await?;
    if !is_ledger_restored && !is_other_database {
        return Ok(false);
    }
    unreconciled(transaction, &owned.stream).await
}

pub(super) fn report_both(stream: &str) {
    report(stream, BOTH_LOST);
}

/// Whether that is new.
pub(super) async fn unreconciled(transaction: &mut Connection, stream: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        update outbox.cursor as cursor
        set unreconciled_since = coalesce(cursor.unreconciled_since, clock_timestamp())
        from outbox.cursor as before
        where cursor.stream = $1 and before.stream = cursor.stream
        returning before.unreconciled_since is null as "is_new!"
        "#,
        stream,
    )
    .fetch_one(transaction)
    .await
}

pub(super) fn report(stream: &str, reason: &str) {
    tracing::error!(
        stream,
        reason,
        "consumers may have events that the database does not have: compare their copies, as by \
         `notification-service verify --repair`, then run `outbox-relay reconciled {stream}`"
    );
}
