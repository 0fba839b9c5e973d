//! Which transactions hold locks on a table, to wait for them or to leave them alone.

use std::{collections::HashSet, time::Duration};

use crate::Pool;

/// A transaction that is there before and after this time is a long one.
const SHORT: Duration = Duration::from_millis(200);

/// The transactions that hold a lock on the table, in one of these modes, if any are named.
pub async fn holders(
    pool: &Pool,
    table: &str,
    modes: Option<&[&str]>,
) -> sqlx::Result<HashSet<String>> {
    let holders = sqlx::query_scalar!(
        r#"
        select distinct virtualtransaction as "virtualtransaction!" from pg_locks
        where locktype = 'relation' and relation = to_regclass($1::text) and granted
            and database = (select oid from pg_database where datname = current_database())
            and ($2::text[] is null or mode = any($2))
        "#,
        table,
        modes as _,
    )
    .fetch_all(pool)
    .await?;
    Ok(holders.into_iter().collect())
}

/// Whether a long transaction holds a lock on the table. To wait for it would be in vain, and make
/// all others wait as well.
pub async fn is_held_for_long(pool: &Pool, table: &str) -> sqlx::Result<bool> {
    let before = holders(pool, table, None).await?;
    if before.is_empty() {
        return Ok(false);
    }
    tokio::time::sleep(SHORT).await;
    let after = holders(pool, table, None).await?;
    Ok(!before.is_disjoint(&after))
}
