//! Waiting between tries.

use std::{fmt::Display, time::Duration};

use backon::{ExponentialBuilder, Retryable};

/// From 100 ms doubling to 1 s, and up to twice that with jitter, so that restarted instances do not
/// try in step; without an end: for what the process cannot work without.
#[must_use]
pub fn unbounded() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(1))
        .with_jitter()
        .without_max_times()
}

/// Repeats `attempt` until it succeeds and logs each failure as waiting for `what`.
///
/// Has no bound of its own: run it under the shutdown token.
pub async fn wait_for<T, E: Display, F: Future<Output = Result<T, E>>>(
    what: &'static str,
    attempt: impl FnMut() -> F,
) -> T {
    let retried = attempt.retry(unbounded()).notify(|error, delay| {
        tracing::warn!(what, %error, retry_in_ms = delay.as_millis(), "waiting");
    });
    match retried.await {
        Ok(value) => value,
        Err(error) => unreachable!("retrying has no end, yet it gave up: {error}"),
    }
}
