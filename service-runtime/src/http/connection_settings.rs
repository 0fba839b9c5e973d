//! How many connections a service holds, and for how long it waits for what is on them.

use std::{ops::RangeInclusive, time::Duration};

use anyhow::{Context, ensure};
use clap::Args;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::client_limit::PerClientLimit;
use crate::{metrics::CONNECTIONS_MAX, settings::duration};

/// Connections at once, if the descriptors suffice and nothing is set.
const MAX_CONNECTIONS: u64 = 4096;
/// Connections on which only health checks are answered.
pub(super) const HEALTH_CONNECTIONS: usize = 64;
/// Descriptors kept for everything else: databases, NATS, files, and connections just accepted.
const RESERVED_DESCRIPTORS: u64 = 192;
const TIMEOUT: Duration = Duration::from_secs(30);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(1);
const MAX_UNREAD_BYTES: u64 = 128 * 1024 * 1024;

/// Limits of connections, whatever is asked on them.
#[derive(Debug, Clone, Args)]
pub struct ConnectionSettings {
    /// Connections at once; above it only health checks are answered. By default 4096, or as many
    /// as the limit of open files allows
    #[arg(long, env = "MAX_CONNECTIONS", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub max_connections: Option<u64>,
    /// Connections at once of one peer address (IPv6: of one /64 network). By default half of
    /// `MAX_CONNECTIONS`, or all of them behind trusted proxies
    #[arg(long, env = "MAX_CONNECTIONS_PER_PEER", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub max_connections_per_peer: Option<u64>,
    /// How long a connection may take to send the whole head of its next request, whether it is
    /// idle or sends slowly; then it is closed. Proxies must close theirs sooner
    #[arg(long, env = "HEADER_TIMEOUT", default_value = "30s", value_parser = duration(TIMEOUTS))]
    pub header_timeout: Duration,
    /// How long a client may go without reading enough of an answer to make room for more; then
    /// its connection is closed
    #[arg(long, env = "WRITE_TIMEOUT", default_value = "30s", value_parser = duration(TIMEOUTS))]
    pub write_timeout: Duration,
    /// Bytes of answers larger than 16 KiB that clients have not read yet, of which one client may
    /// have a quarter; answers above it are replaced by 503 or 429
    #[arg(long, env = "MAX_UNREAD_BYTES", default_value_t = MAX_UNREAD_BYTES, value_parser = clap::value_parser!(u64).range(1_048_576..=1_099_511_627_776))]
    pub max_unread_bytes: u64,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self {
            max_connections: None,
            max_connections_per_peer: None,
            header_timeout: TIMEOUT,
            write_timeout: TIMEOUT,
            max_unread_bytes: MAX_UNREAD_BYTES,
        }
    }
}

impl ConnectionSettings {
    /// # Errors
    /// If the process may not open as many files as it would need.
    pub(super) fn connections(&self, has_proxies: bool) -> anyhow::Result<PerClientLimit> {
        let total = connections_within(self.max_connections, raise_descriptor_limit()?)?;
        CONNECTIONS_MAX.with([]).set(u32::try_from(total)?);
        let default = if has_proxies {
            total
        } else {
            total.div_ceil(2)
        };
        let per_peer = self.max_connections_per_peer.unwrap_or(default);
        Ok(PerClientLimit::new(
            "connections",
            usize::try_from(total)?,
            usize::try_from(per_peer)?,
        ))
    }

    pub(super) fn unread_bytes(&self) -> PerClientLimit {
        let total = usize::try_from(self.max_unread_bytes).unwrap_or(usize::MAX);
        PerClientLimit::new("unread bytes", total, total / 4)
    }
}

/// Raises the soft limit of open files to the hard one, and tells it.
fn raise_descriptor_limit() -> anyhow::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("asking for the file limit")?;
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_err() {
        return Ok(soft);
    }
    Ok(hard)
}

fn connections_within(configured: Option<u64>, descriptors: u64) -> anyhow::Result<u64> {
    let reserved = RESERVED_DESCRIPTORS + HEALTH_CONNECTIONS as u64;
    let available = descriptors.saturating_sub(reserved);
    ensure!(
        configured.unwrap_or(1) <= available,
        "MAX_CONNECTIONS is {}, but with at most {descriptors} open files (ulimit -n) {available} \
         are possible: {reserved} are kept for other purposes",
        configured.unwrap_or(1),
    );
    Ok(configured.unwrap_or(MAX_CONNECTIONS.min(available)))
}

#[cfg(test)]
mod tests {
    use super::connections_within;

    #[test]
    fn the_limit_of_connections_fits_into_the_limit_of_open_files() {
        assert_eq!(connections_within(None, 1_024).expect("it fits"), 768);
        assert_eq!(connections_within(None, 1_000_000).expect("it fits"), 4_096);
        assert_eq!(connections_within(Some(768), 1_024).expect("it fits"), 768);
        let error = connections_within(Some(769), 1_024).expect_err("too many");
        assert!(
            error.to_string().contains("MAX_CONNECTIONS is 769"),
            "{error}"
        );
        connections_within(None, 256).expect_err("none is left");
    }
}
