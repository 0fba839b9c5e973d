//! Who is the active relay: a lease in a row of its own, with an epoch that grows with every new
//! owner. (A session's advisory lock would be lost silently behind a connection pooler.)

use std::time::{Duration, Instant};

use postgres_pool::{Connection, Pool};
use service_runtime::progress::Progress;

use super::responsibility;
use crate::route::Routes;

/// How long a silent owner keeps the lease. Take-over happens within this and a retry's delay.
const TTL: Duration = Duration::from_millis(1200);
const RENEW_INTERVAL: Duration = Duration::from_millis(400);
/// A standby looks again when the lease ends, but not more often than this.
const STANDBY_INTERVAL: Duration = Duration::from_millis(50);

/// The right to move the cursors, until another owner has it. Whoever believes to have it after
/// that does no harm: its writes name an epoch that is over.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) epoch: i64,
    /// Of the database that gave it. A connection may come to another one without a word, as after a
    /// fail-over behind one address: what it says there must change nothing.
    pub(super) identity: String,
}

impl Lease {
    /// Whether it is still held. If so, nobody else can acquire it before the transaction ends.
    pub(super) async fn hold(&self, transaction: &mut Connection) -> sqlx::Result<bool> {
        let held = sqlx::query_scalar!(
            r"
            select epoch from outbox.lease
            where epoch = $1 and outbox.database_identity() = $2 for update
            ",
            self.epoch,
            self.identity,
        );
        Ok(held.fetch_optional(transaction).await?.is_some())
    }

    /// Waits until the lease is free and takes it, with the cursors of all streams. `owner` is for
    /// people to read; `own` is the epoch that this relay had before.
    pub(super) async fn acquire(
        pool: &Pool,
        owner: &str,
        routes: &Routes,
        progress: &Progress,
        own: Option<i64>,
    ) -> Self {
        let mut seen: Option<Seen> = None;
        loop {
            let stale = seen.as_ref().filter(|it| it.at.elapsed() >= TTL);
            let stale = stale.map(|it| it.expires_at.as_str());
            let wait = match try_acquire(pool, owner, routes, stale).await {
                Ok(Attempt {
                    epoch: Some(epoch),
                    identity,
                    ..
                }) => return Self { epoch, identity },
                Ok(held) => {
                    // A lease that was lost before it expired is no other relay's.
                    match own == Some(held.held_epoch) {
                        true => progress.attempted(),
                        false => progress.succeeded(),
                    }
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
            let left = TTL.saturating_sub(renewed_at.elapsed());
            match tokio::time::timeout(left, self.renew(pool)).await {
                Ok(Ok(true)) => renewed_at = asked_at,
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!(%error, "the lease was not renewed"),
                Err(_) => tracing::warn!("the lease was not renewed in time"),
            }
        }
    }

    async fn renew(&self, pool: &Pool) -> sqlx::Result<bool> {
        let renewed = sqlx::query!(
            r"
            update outbox.lease
            set expires_at = clock_timestamp() + $2::float8 * interval '1 millisecond'
            where epoch = $1 and outbox.database_identity() = $3
            ",
            self.epoch,
            millis(TTL),
            self.identity,
        )
        .execute(pool)
        .await?;
        Ok(renewed.rows_affected() > 0)
    }

    /// Lets a standby take over at once.
    pub(super) async fn release(&self, pool: &Pool) -> sqlx::Result<()> {
        sqlx::query!(
            r"
            update outbox.lease set expires_at = '-infinity'
            where epoch = $1 and outbox.database_identity() = $2
            ",
            self.epoch,
            self.identity,
        )
        .execute(pool)
        .await
        .map(drop)
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

#[derive(Debug)]
struct Attempt {
    /// The new epoch, if the lease was free.
    epoch: Option<i64>,
    /// As Postgres writes it.
    expires_at: String,
    held_for_ms: i64,
    /// Whose it is.
    held_epoch: i64,
    identity: String,
}

/// Takes the lease if it has expired, or if it is still the `stale` one. Time is Postgres' own.
async fn try_acquire(
    pool: &Pool,
    owner: &str,
    routes: &Routes,
    stale: Option<&str>,
) -> sqlx::Result<Attempt> {
    let mut transaction = pool.begin().await?;
    let attempt = sqlx::query_as!(
        Attempt,
        r#"
        with taken as (
            update outbox.lease
            -- By the clock, in microseconds: a database that was put back, or was promoted, must not
            -- come to an epoch that was in use a moment ago.
            set owner = $1, epoch = greatest(epoch, (extract(epoch from now()) * 1e6)::bigint) + 1,
                expires_at = clock_timestamp() + $2::float8 * interval '1 millisecond'
            where expires_at <= clock_timestamp() or expires_at::text = $3
            returning epoch
        )
        select (select epoch from taken) as epoch, lease.epoch as held_epoch,
               expires_at::text as "expires_at!",
               case when expires_at = '-infinity' then 0
                    else ceil(extract(epoch from expires_at - clock_timestamp()) * 1000)::bigint
               end as "held_for_ms!",
               outbox.database_identity() as "identity!"
        from outbox.lease
        "#,
        owner,
        millis(TTL),
        stale,
    )
    .fetch_one(&mut *transaction)
    .await?;
    if let Some(epoch) = attempt.epoch {
        take_cursors(&mut transaction, routes, epoch).await?;
    }
    transaction.commit().await?;
    Ok(attempt)
}

/// From here on earlier owners move no cursor. A stream that is new begins with the beginning of the
/// ledger, so what was parked for want of a route to it comes by itself.
async fn take_cursors(db: &mut Connection, routes: &Routes, epoch: i64) -> sqlx::Result<()> {
    responsibility::change(db, routes).await?;
    // 0 stays for streams that have no route any more.
    sqlx::query!("update outbox.cursor set epoch = 0")
        .execute(&mut *db)
        .await?;
    for stream in routes.streams() {
        let types = routes.responsibility(&stream.topic.stream);
        sqlx::query!(
            r"
            insert into outbox.cursor as cursor (stream, aggregate_types, epoch, complete_from)
            select $1::text, $2::text[], $3::bigint, case when ledger_from = 1 then 1 end
            from outbox.ledger
            on conflict (stream) do update set epoch = excluded.epoch
            ",
            stream.topic.stream,
            types as _,
            epoch,
        )
        .execute(&mut *db)
        .await?;
        responsibility::unpark(db, stream).await?;
    }
    warn_of_unrouted_cursors(db, routes).await
}

async fn warn_of_unrouted_cursors(db: &mut Connection, routes: &Routes) -> sqlx::Result<()> {
    let streams = routes.streams().iter();
    let streams: Vec<_> = streams.map(|it| it.topic.stream.clone()).collect();
    let others = sqlx::query_scalar!(
        "select stream from outbox.cursor where stream <> all ($1) order by stream",
        &streams,
    )
    .fetch_all(db)
    .await?;
    for stream in others {
        tracing::warn!(
            stream,
            "no route leads to this stream any more; its cursor keeps old events from being dropped \
             until it is forgotten"
        );
    }
    Ok(())
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use service_runtime::progress::Progress;

    use super::{Lease, try_acquire};
    use crate::{
        Routes,
        tests::{create_database, pool_of},
    };

    fn routes() -> Routes {
        let route = "account=ACCOUNTS:account.events".parse();
        Routes::new(vec![route.expect("a route")]).expect("routes")
    }

    /// As by the promotion of a standby that lacks the last writes.
    #[tokio::test]
    async fn a_database_that_is_put_back_comes_to_no_epoch_of_a_moment_ago() {
        let database = create_database().await;
        let (pool, _) = pool_of(&database).await;
        let routes = routes();
        let mut epochs = Vec::new();
        for _ in 0..3 {
            let attempt = try_acquire(&pool, "a relay", &routes, None).await;
            let epoch = attempt.expect("an answer").epoch;
            epochs.push(epoch.expect("a free lease"));
            let put_back = "update outbox.lease set epoch = 1, expires_at = '-infinity'";
            let done = sqlx::raw_sql(put_back).execute(&database.pool).await;
            done.expect("a statement that runs");
        }
        assert!(epochs.is_sorted_by(|a, b| a < b), "{epochs:?}");
    }

    /// It can't be renewed in time, over and over, and meanwhile nothing is published.
    #[tokio::test]
    async fn waiting_for_the_lease_that_it_has_lost_itself_makes_no_relay_ready() {
        let database = create_database().await;
        let (pool, _) = pool_of(&database).await;
        let routes = routes();
        let taken = try_acquire(&pool, "a relay", &routes, None).await;
        let lost = taken.expect("an answer").epoch.expect("a free lease");
        for (own, is_ready) in [(Some(lost), false), (None, true)] {
            let progress = Progress::new("relay");
            let lease = Lease::acquire(&pool, "a relay", &routes, &progress, own).await;
            let check = progress.check(Duration::from_hours(1)).run().await;
            assert_eq!(check.is_ok(), is_ready, "{lease:?}");
        }
    }
}
