//! Who is the active relay: a lease in the cursor row, with an epoch that grows with every new
//! owner. (A session's advisory lock would be lost silently behind a connection pooler.)

use std::time::{Duration, Instant};

use postgres_pool::Pool;
use service_runtime::progress::Progress;

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
    pub(super) async fn acquire(pool: &Pool, owner: &str, progress: &Progress) -> Self {
        let mut seen: Option<Seen> = None;
        loop {
            let stale = seen.as_ref().filter(|it| it.at.elapsed() >= TTL);
            let stale = stale.map(|it| it.expires_at.as_str());
            let wait = match try_acquire(pool, owner, stale).await {
                Ok(Attempt {
                    epoch: Some(epoch), ..
                }) => return Self { epoch },
                Ok(held) => {
                    progress.succeeded();
                    if seen
                        .as_ref()
                        .is_none_or(|it| it.expires_at != held.expires_at)
                    {
                        seen = Some(Seen::now(held.expires_at));
                    }
                    let held_for = Duration::from_millis(held.held_for_ms.try_into().unwrap_or(0));
                    held_for.clamp(STANDBY_INTERVAL, TTL)
                }
                Err(error) => {
                    progress.attempted();
                    tracing::warn!(%error, "could not acquire the relay lease");
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

/// A lease of another owner, and when it was first seen. An owner that is alive renews it well within
/// its time; so one that has not changed for as long has no owner, even if it expires in the far
/// future because the server's clock was changed.
#[derive(Debug)]
struct Seen {
    expires_at: String,
    at: Instant,
}

impl Seen {
    fn now(expires_at: String) -> Self {
        let at = Instant::now();
        Self { expires_at, at }
    }
}

#[derive(Debug, sqlx::FromRow)]
struct Attempt {
    /// The new epoch, if the lease was free.
    epoch: Option<i64>,
    /// As Postgres writes it.
    expires_at: String,
    held_for_ms: i64,
}

/// Takes the lease if it has expired, or if it is still the `stale` one. Time is Postgres' own.
async fn try_acquire(pool: &Pool, owner: &str, stale: Option<&str>) -> sqlx::Result<Attempt> {
    sqlx::query_as(
        r"
        with taken as (
            update relay_cursor
            set owner = $1, epoch = epoch + 1,
                expires_at = clock_timestamp() + $2 * interval '1 millisecond'
            where expires_at <= clock_timestamp() or expires_at::text = $3
            returning epoch
        )
        select (select epoch from taken) as epoch, expires_at::text as expires_at,
               case when expires_at = '-infinity' then 0
                    else ceil(extract(epoch from expires_at - clock_timestamp()) * 1000)::bigint
               end as held_for_ms
        from relay_cursor
        ",
    )
    .bind(owner)
    .bind(millis(TTL))
    .bind(stale)
    .fetch_one(pool)
    .await
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
