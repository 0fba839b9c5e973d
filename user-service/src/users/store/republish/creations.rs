//! Telling users who are gone from users who are being created.
//!
//! An id is drawn before its row is there: a creation may wait for its e-mail address in between,
//! without a transaction id and without a row that others could wait for. But it holds a lock on the
//! table from before it draws the id until it ends. So an id that the sequence had given out is
//! settled once every transaction has ended that held such a lock afterwards: if its row is not there
//! then, it never will be.

use std::time::Duration;

use postgres_pool::{Pool, locks};
use tokio::time::Instant;

/// Every writer of users holds this one.
const WRITE: &str = "RowExclusiveLock";
/// How long to wait for transactions that may be creating users.
const MAX_WAIT: Duration = Duration::from_secs(3);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The greatest id given out, once nobody can be creating a user with an id up to it any more;
/// `None` if somebody takes too long.
pub(super) async fn settled(pool: &Pool) -> sqlx::Result<Option<i64>> {
    let given_out = sqlx::query_scalar!(
        r#"select case when is_called then last_value else 0 end as "last_id!" from users_id_seq"#,
    )
    .fetch_one(pool)
    .await?;
    let started = Instant::now();
    let mut open = locks::holders(pool, "users", Some(&[WRITE])).await?;
    while !open.is_empty() {
        if started.elapsed() > MAX_WAIT {
            return Ok(None);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
        let still = locks::holders(pool, "users", Some(&[WRITE])).await?;
        open.retain(|transaction| still.contains(transaction));
    }
    Ok(Some(given_out))
}
