//! Listening for notifications on a connection that may fall silent.

use std::time::Duration;

use sqlx::{
    Acquire, ConnectOptions, Executor,
    postgres::{PgConnectOptions, PgListener},
};
use tokio::{runtime::Handle, time::timeout};

use super::{connection::no_answer, pool::Pool};

/// A connection that was silent for this long is asked whether it is alive.
const SILENCE: Duration = Duration::from_secs(2);
/// How long it may take to answer.
const DEADLINE: Duration = Duration::from_secs(2);
/// How long to wait before connecting once more.
const RETRY: Duration = Duration::from_secs(1);

/// Hears notifications on one channel.
#[derive(Debug)]
pub struct Listener {
    /// Only taken by `drop`.
    listener: Option<PgListener>,
    options: PgConnectOptions,
}

impl Listener {
    /// # Errors
    /// If there is no connection, or the server does not answer.
    pub async fn listen(pool: &Pool, channel: &str) -> sqlx::Result<Self> {
        let mut listening = Self {
            listener: Some(PgListener::connect_with(&pool.connections).await?),
            options: (*pool.connections.connect_options()).clone(),
        };
        bounded(listening.inner().listen(channel)).await?;
        Ok(listening)
    }

    /// Returns when there was a notification, or when one may have been missed.
    ///
    /// # Errors
    /// If the connection is lost or silent.
    pub async fn notified(&mut self) -> sqlx::Result<()> {
        loop {
            let listener = self.inner();
            match timeout(SILENCE, listener.try_recv()).await {
                Ok(received) => return received.map(drop),
                Err(_) => {
                    bounded(listener.execute("")).await?;
                }
            }
        }
    }

    fn inner(&mut self) -> &mut PgListener {
        self.listener.as_mut().expect("only drop takes it")
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let (Some(listener), Ok(runtime)) = (self.listener.take(), Handle::try_current()) {
            runtime.spawn(end(listener, self.options.clone()));
        }
    }
}

/// Dropping a `PgListener` makes it say goodbye, without a bound and with its place in the pool
/// taken. So a silent connection is first replaced by one that answers, as soon as one can be had.
async fn end(mut listener: PgListener, options: PgConnectOptions) {
    if bounded(listener.unlisten_all()).await.is_ok() {
        return;
    }
    loop {
        if let Ok(fresh) = bounded(options.connect()).await {
            if let Ok(silent) = listener.acquire().await {
                *silent = fresh;
            }
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn bounded<T>(asking: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    let answer = timeout(DEADLINE, asking).await;
    answer.unwrap_or_else(|_| Err(no_answer(DEADLINE)))
}
