//! The sequence that users get their ids from.

use sqlx::PgExecutor;

/// What gives reason to look at the sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::users) enum Look {
    /// Nothing: two look-ups.
    Routine,
    /// A creation may have met an id in use: the newest events are looked at as well.
    Thorough,
}

/// Moves the sequence beyond all ids in use if it is behind them: a replication brings rows but no
/// sequences, and an operator may have set it.
pub(in crate::users) async fn repair(db: impl PgExecutor<'_>, look: Look) -> sqlx::Result<()> {
    let moved_to = sqlx::query_scalar!("select repair_users_id_seq($1)", look == Look::Thorough)
        .fetch_one(db)
        .await?;
    // Of several that notice, one moves it.
    if let Some(last_id) = moved_to {
        tracing::error!(
            last_id,
            "users_id_seq was behind the ids in use; moved it on"
        );
    }
    Ok(())
}
