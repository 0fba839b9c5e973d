//! Telling the active relay that something was written, without a lock that writers share.
//!
//! A `NOTIFY` inside the write's transaction would take a database-wide lock at commit. So a write
//! only sets a flag in this process; one task turns flags into notifications, few per second
//! however many writes there are. The relay polls as well: a wake-up that is lost costs time only.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use postgres_pool::{Listener, Pool};

const CHANNEL: &str = "outbox";
/// The first write after a pause notifies at once, those that follow at most this often.
const NOTIFY_INTERVAL: Duration = Duration::from_millis(2);
/// How long to wait before listening again after the connection could not be had.
const LISTEN_RETRY: Duration = Duration::from_secs(1);

/// A flag that one side raises and one side waits for. Raised twice before it is seen, it wakes
/// once; raised before the other side waits, it is seen as well.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    pub fn raise(&self) {
        self.0.notify_one();
    }

    pub async fn raised(&self) {
        self.0.notified().await;
    }
}

/// Raised by whoever has written to the outbox.
#[derive(Debug, Clone, Default)]
pub struct Written {
    /// For a relay in this process.
    pub here: Wake,
    /// For relays in others, by [`notify_relays`].
    pub elsewhere: Wake,
    /// Whether the relay in this process is the active one: then no other needs to know. Should it
    /// cease to be at that very moment, the next one polls.
    pub(crate) relay_is_here: Arc<AtomicBool>,
}

impl Written {
    pub fn raise(&self) {
        self.here.raise();
        if !self.relay_is_here.load(Ordering::Relaxed) {
            self.elsewhere.raise();
        }
    }
}

/// Passes what is written here on to the relays, wherever they run.
pub async fn notify_relays(
    pool: Pool,
    written: Wake,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let notifying = async {
        loop {
            written.raised().await;
            let notify = sqlx::query("select pg_notify($1, '')").bind(CHANNEL);
            if let Err(error) = notify.execute(&pool).await {
                tracing::debug!(%error, "the relays were not notified and will poll");
            }
            tokio::time::sleep(NOTIFY_INTERVAL).await;
        }
    };
    shutdown.run_until_cancelled(notifying).await;
    Ok(())
}

/// Raises `wake` for every notification, and once when listening starts or starts anew, since
/// some may have been missed.
pub(crate) async fn listen(pool: &Pool, wake: &Wake) -> Infallible {
    loop {
        let error = match listen_once(pool, wake).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        tracing::debug!(%error, "not listening for writes; polling meanwhile");
        tokio::time::sleep(LISTEN_RETRY).await;
    }
}

async fn listen_once(pool: &Pool, wake: &Wake) -> sqlx::Result<Infallible> {
    let mut listener = Listener::listen(pool, CHANNEL).await?;
    loop {
        wake.raise();
        listener.notified().await?;
    }
}
