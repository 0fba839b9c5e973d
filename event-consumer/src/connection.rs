//! The process's connection to NATS, for whoever has a question of its own.

use std::time::Duration;

use async_nats::{
    Client,
    connection::State,
    jetstream::{self, Context},
};
use service_runtime::progress::Progress;
use tokio::{
    sync::watch,
    time::{self, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

const OBSERVATION_INTERVAL: Duration = Duration::from_secs(1);

/// Empty until NATS was first reached; replaced if the client has ended for good.
#[derive(Debug, Clone)]
pub struct Connection(watch::Sender<Option<Client>>);

impl Default for Connection {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Connection {
    pub(crate) fn set(&self, client: Option<Client>) {
        self.0.send_replace(client);
    }

    /// `None` until NATS was reached for the first time.
    #[must_use]
    pub fn jetstream(&self) -> Option<Context> {
        self.0.borrow().clone().map(jetstream::new)
    }

    /// Whether there is a connection now, as far as the client knows.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let client = self.0.borrow();
        client
            .as_ref()
            .is_some_and(|client| client.connection_state() == State::Connected)
    }

    /// Asks once a second, while there is a connection, until `shutdown`; each time is an attempt. When it begins to
    /// fail, that is logged as one of `subject`.
    pub(crate) async fn observe<F: Future<Output = anyhow::Result<()>>>(
        &self,
        subject: &'static str,
        progress: &Progress,
        shutdown: &CancellationToken,
        ask: impl Fn(Context) -> F,
    ) {
        let mut ticks = time::interval(OBSERVATION_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_failing = false;
        let observing = async {
            loop {
                ticks.tick().await;
                progress.attempted();
                let Some(jetstream) = self.jetstream() else {
                    continue;
                };
                let asked = ask(jetstream).await;
                let was_failing = std::mem::replace(&mut is_failing, asked.is_err());
                match asked {
                    Err(error) if !was_failing => {
                        let error = format!("{error:#}");
                        tracing::warn!(
                            subject,
                            error,
                            "a look at the consumer failed; trying again"
                        );
                    }
                    Ok(()) if was_failing => {
                        tracing::info!(subject, "looking at the consumer again");
                    }
                    _ => {}
                }
            }
        };
        shutdown.run_until_cancelled(observing).await;
    }
}
