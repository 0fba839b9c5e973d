//! Who is the active relay: a lease in the cursor row, with an epoch that grows with every new
//! owner. (A session's advisory lock would be lost silently behind a connection pooler.)

use std::time::{Duration, Instant};

use crate::database::Pool;

/// How long a silent owner keeps the lease. Take-over happens within this and a retry's delay.
const TTL: Duration = Duration::from_millis(1200);
const RENEW_INTERVAL: Duration = Duration::from_millis(400);
/// A standby looks again when the lease ends, but not more often than this.
const STANDBY_INTERVAL: Duration = Duration::from_millis(50);

/// The right to move the cursor, until another owner has it. Whoever believes to have it after
/// that does no harm: its writes name an epoch that is over.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) epoch: i64,
}

impl Lease {
    /// Waits until the lease is free and takes it. `owner` is for people to read.
    pub(super) async fn acquire(pool: &Pool, owner: &str) -> Self {
        loop {
            let wait = match try_acquire(pool, owner).await {
                Ok((Some(epoch), _)) => return Self { epoch },
                Ok((None, held_for)) => held_for.max(STANDBY_INTERVAL),
                Err(error) => {
                    tracing::warn!(%error, "the lease of the relay can't be had");
                    TTL
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Renews the lease until it is lost: to another owner, or because Postgres could not be
    /// reached for as long as it lasts.
    pub(super) async fn keep(&self, pool: &Pool) {
        let mut renewed_at = Instant::now();
        while renewed_at.elapsed() < TTL {
            tokio::time::sleep(RENEW_INTERVAL).await;
            let asked_at = Instant::now();
            match tokio::time::timeout(RENEW_INTERVAL, self.renew(pool)).await {
                Ok(Ok(true)) => renewed_at = asked_at,
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!(%error, "the lease was not renewed"),
                Err(_) => tracing::warn!("the lease was not renewed in time"),
            }
        }
    }

    async fn renew(&self, pool: &Pool) -> sqlx::Result<bool> {
        let renewed = sqlx::query(
            r"
            update relay_cursor
            set expires_at = clock_timestamp() + $2 * interval '1 millisecond'
            where epoch = $1
            ",
        )
        .bind(self.epoch)
        .bind(millis(TTL))
        .execute(pool)
        .await?;
        Ok(renewed.rows_affected() > 0)
    }

    /// Lets a standby take over at once.
    pub(super) async fn release(&self, pool: &Pool) -> sqlx::Result<()> {
        sqlx::query("update relay_cursor set expires_at = '-infinity' where epoch = $1")
            .bind(self.epoch)
            .execute(pool)
            .await?;
        Ok(())
    }
}

/// The new epoch if the lease was free, and else how long it is held. Time is Postgres' own.
async fn try_acquire(pool: &Pool, owner: &str) -> sqlx::Result<(Option<i64>, Duration)> {
    let (epoch, held_for_ms): (Option<i64>, i64) = sqlx::query_as(
        r"
        with taken as (
            update relay_cursor
            set owner = $1, epoch = epoch + 1,
                expires_at = clock_timestamp() + $2 * interval '1 millisecond'
            where expires_at <= clock_timestamp()
            returning epoch
        )
        select (select epoch from taken),
               case when expires_at = '-infinity' then 0
                    else ceil(extract(epoch from expires_at - clock_timestamp()) * 1000)::bigint
               end
        from relay_cursor
        ",
    )
    .bind(owner)
    .bind(millis(TTL))
    .fetch_one(pool)
    .await?;
    let held_for = Duration::from_millis(u64::try_from(held_for_ms).unwrap_or(0));
    Ok((epoch, held_for))
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
