//! Looks whether the sequence of ids has fallen behind the users, as it does when the database is
//! replaced by one that a logical replication has filled: at the start, and from then on for the case
//! that the service was running meanwhile. Otherwise ids of deleted users would be given out again
//! until a creation meets one in use.

use std::time::Duration;

use postgres_pool::Pool;
use service_runtime::progress::Progress;
use tokio_util::sync::CancellationToken;

use super::store::{
    id_sequence::{self, Look},
    is_old_schema,
};

const INTERVAL: Duration = Duration::from_secs(1);

/// Runs until `shutdown`. What fails is tried again.
pub(crate) async fn watch_id_sequence(
    pool: Pool,
    progress: Progress,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let watching = async {
        loop {
            progress.attempted();
            match id_sequence::repair(&pool, Look::Routine).await {
                Err(error) if !is_old_schema(&error) => {
                    tracing::warn!(%error, "could not look at users_id_seq; trying again");
                }
                _ => {}
            }
            progress.rest(INTERVAL).await;
        }
    };
    shutdown.run_until_cancelled(watching).await;
    Ok(())
}
