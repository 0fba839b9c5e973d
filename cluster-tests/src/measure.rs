//! How long a fault was felt.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, sleep};

use crate::{
    RECOVERY_DEADLINE,
    clients::{Clients, Write},
    copy::{Look, Probe},
};

/// Fifty clients write and ten writes a second are looked for: without a fault something happens all the
/// time.
const PAUSE: Duration = Duration::from_secs(1);
/// Recovered once there was no pause for so long.
const CALM: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Recovery {
    /// From the fault until the end of the last pause of all writes.
    pub(crate) writes: Duration,
    /// From the fault until the end of the last pause in which the copy showed no new write.
    pub(crate) copy: Duration,
    /// The longest that a client had to wait for a write, with all its attempts.
    pub(crate) slowest: Duration,
    /// From the restart of what was lost until every member was ready.
    pub(crate) ready: Duration,
    /// Writes a second that were acknowledged.
    pub(crate) rate: f64,
    pub(crate) acknowledged: usize,
    /// Deletions that were answered only by the user's absence, after an attempt of unknown outcome.
    pub(crate) doubtful: usize,
}

impl Recovery {
    pub(crate) fn of(
        begin: Instant,
        writes: &[Write],
        looks: &[Look],
        ready: Duration,
        doubtful: usize,
    ) -> Self {
        let after: Vec<_> = writes.iter().filter(|it| it.acknowledged > begin).collect();
        let waits = after.iter().map(|it| it.acknowledged - it.sent);
        Self {
            writes: end_of_last_pause(begin, writes.iter().map(|it| it.acknowledged)),
            copy: end_of_last_pause(begin, looks.iter().map(|it| it.visible)),
            slowest: waits.max().unwrap_or_default(),
            ready,
            rate: after.len() as f64 / begin.elapsed().as_secs_f64(),
            acknowledged: writes.len(),
            doubtful,
        }
    }
}

fn end_of_last_pause(begin: Instant, times: impl Iterator<Item = Instant>) -> Duration {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    let mut pauses = times
        .windows(2)
        .filter(|pair| pair[1] > begin && pair[1] - pair[0] > PAUSE);
    pauses
        .next_back()
        .map_or(Duration::ZERO, |pair| pair[1] - begin)
}

/// Waits until writes are acknowledged and shown by the copy as before the fault.
pub(crate) async fn until_calm(
    clients: &Clients,
    probe: &Probe,
    begin: Instant,
    at_least: Duration,
) -> anyhow::Result<()> {
    loop {
        sleep(Duration::from_millis(250)).await;
        let (writes, looks) = (clients.writes(), probe.looks());
        let calm = is_calm(begin, writes.iter().map(|it| it.acknowledged))
            && is_calm(
                begin,
                looks
                    .iter()
                    .filter(|it| it.sent > begin)
                    .map(|it| it.visible),
            );
        if begin.elapsed() > at_least && calm {
            return Ok(());
        }
        ensure!(
            begin.elapsed() < RECOVERY_DEADLINE,
            "writes or the copy did not recover within {RECOVERY_DEADLINE:?}"
        );
    }
}

fn is_calm(begin: Instant, times: impl Iterator<Item = Instant> + Clone) -> bool {
    let flows = times
        .clone()
        .max()
        .is_some_and(|last| last.elapsed() < PAUSE);
    flows && begin.elapsed() > end_of_last_pause(begin, times) + CALM
}
