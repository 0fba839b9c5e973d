//! Whether the projector makes progress.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::{sync::watch, time::Instant};

/// Longer than a write may take, and than JetStream may be silent.
const MAX_SILENCE: Duration = Duration::from_secs(15);

/// Beats whenever a session hears of its consumer or has written events.
#[derive(Debug, Clone)]
pub(crate) struct Pulse(watch::Sender<Option<Instant>>);

impl Default for Pulse {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Pulse {
    pub(super) fn beat(&self) {
        self.0.send_replace(Some(Instant::now()));
    }

    /// The session has ended.
    pub(super) fn stop(&self) {
        self.0.send_replace(None);
    }

    /// # Errors
    /// If there is no session now, or it has made no progress for too long.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let last = self.0.borrow().context("the consumer is not bound")?;
        let silence = last.elapsed();
        ensure!(silence <= MAX_SILENCE, "no progress for {silence:?}");
        Ok(())
    }
}
