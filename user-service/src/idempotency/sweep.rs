//! Forgetting keys that were kept long enough.

use std::time::Duration;

use postgres_pool::Pool;
use service_runtime::progress::Progress;
use sqlx::postgres::types::PgInterval;
use tokio_util::sync::CancellationToken;

/// Keys deleted by one statement: few enough to hold nobody up.
const BATCH: i64 = 5_000;
const MAX_PAUSE: Duration = Duration::from_mins(1);

/// Deletes keys older than `retention`, until `shutdown`. What fails is tried again with the next
/// round.
pub(crate) async fn sweep(
    pool: Pool,
    retention: Duration,
    progress: Progress,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let older_than = PgInterval::try_from(retention)
        .map_err(|error| anyhow::anyhow!("idempotency retention: {error}"))?;
    let pause = MAX_PAUSE.min(retention);
    while (shutdown.run_until_cancelled(progress.rest(pause)).await).is_some() {
        if let Err(error) = delete_all(&pool, &older_than, &progress).await {
            tracing::warn!(%error, "old idempotency keys are still there");
        }
    }
    Ok(())
}

async fn delete_all(pool: &Pool, older_than: &PgInterval, progress: &Progress) -> sqlx::Result<()> {
    loop {
        progress.attempted();
        let deleted = sqlx::query!(
            r"
            delete from idempotency_key where (key, part) in (
                select key, part from idempotency_key
                where created_at < clock_timestamp() - $1::interval
                order by created_at limit $2 for update skip locked
            )
            ",
            older_than,
            BATCH,
        )
        .execute(pool)
        .await?;
        if deleted.rows_affected() == 0 {
            return Ok(());
        }
    }
}
