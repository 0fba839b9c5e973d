//! Which transactions hold locks on a table, to leave them alone.

use std::{collections::HashSet, time::Duration};

use crate::Pool;

/// A transaction that is there before and after this time is a long one.
const SHORT: Duration = Duration::from_millis(200);

/// Whether a long transaction holds a lock on the table. To wait for it would be in vain, and make
/// all others wait as well.
pub async fn is_held_for_long(pool: &Pool, table: &str) -> sqlx::Result<bool> {
    let before = holders(pool, table).await?;
    if before.is_empty() {
        return Ok(false);
    }
    tokio::time::sleep(SHORT).await;
    let after = holders(pool, table).await?;
    Ok(!before.is_disjoint(&after))
}

/// The transactions that hold a lock on the table.
async fn holders(pool: &Pool, table: &str) -> sqlx::Result<HashSet<String>> {
    let holders = sqlx::query_scalar!(
        r#"
        select distinct virtualtransaction as "virtualtransaction!" from pg_locks
        where locktype = 'relation' and relation = to_regclass($1::text) and granted
            and database = (select oid from pg_database where datname = current_database())
        "#,
        table,
    )
    .fetch_all(pool)
    .await?;
    Ok(holders.into_iter().collect())
}
