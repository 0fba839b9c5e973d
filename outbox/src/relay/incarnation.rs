//! A stream that has lost its end goes on in another incarnation: other messages may come to stand
//! where readers have been. They are told before anything is published.
//!
//! The database knows the numbers first: whatever ends the relay between moving the cursor and
//! telling, the next session tells.

use postgres_pool::Connection;
use service_runtime::nats::stream::Incarnation;
use sqlx::PgExecutor;

/// As many as the metadata hold.
const KEPT: i64 = 20;

/// The cursor moves back to this sequence, in this transaction. The new number is above all in the
/// database and above `told`, the greatest on the stream: either may have been restored.
pub(super) async fn begin(
    transaction: &mut Connection,
    stream: &str,
    told: u64,
    sequence: i64,
) -> sqlx::Result<i64> {
    let number = sqlx::query_scalar!(
        r"
        insert into outbox.incarnation (stream, number, sequence)
        select $1::text, 1 + greatest($2::bigint, max(number)), $3::bigint
        from outbox.incarnation where stream = $1
        returning number
        ",
        stream,
        told.cast_signed(),
        sequence,
    )
    .fetch_one(&mut *transaction)
    .await?;
    sqlx::query!(
        "delete from outbox.incarnation where stream = $1 and number <= $2",
        stream,
        number - KEPT,
    )
    .execute(transaction)
    .await?;
    Ok(number)
}

/// Those that are known, the oldest first.
pub(super) async fn load(db: impl PgExecutor<'_>, stream: &str) -> sqlx::Result<Vec<Incarnation>> {
    let rows = sqlx::query!(
        "select number, sequence from outbox.incarnation where stream = $1 order by number",
        stream,
    )
    .fetch_all(db)
    .await?;
    let incarnations = rows.into_iter().map(|row| Incarnation {
        number: row.number.cast_unsigned(),
        sequence: row.sequence.cast_unsigned(),
    });
    Ok(incarnations.collect())
}
