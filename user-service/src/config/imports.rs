//! Limits of imports.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use clap::Args;
use service_runtime::settings::duration;

const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(1);

/// How much imports may take, and how slow their clients may be.
#[derive(Debug, Clone, Args)]
pub struct ImportSettings {
    /// Imports at once; those above it are refused at once
    #[arg(long, env = "MAX_IMPORTS", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub max_imports: u32,
    /// Imports at once of each client address
    #[arg(long, env = "MAX_IMPORTS_PER_CLIENT", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub max_imports_per_client: u32,
    /// Longest wait for the client until the next chunk of an import is complete: 1,000 lines, 1 MiB
    /// or the end
    #[arg(long, env = "IMPORT_CHUNK_TIMEOUT", default_value = "1min", value_parser = duration(TIMEOUTS))]
    pub import_chunk_timeout: Duration,
    /// Bytes a second that the client of an import must send on average over ten seconds; white space
    /// and blank lines do not count
    #[arg(long, env = "IMPORT_MIN_RATE", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub import_min_rate: u32,
    /// Longest time for each step of an all-or-nothing import: its body, its wait for one of four
    /// places to be written, and its transaction
    #[arg(long, env = "ALL_OR_NOTHING_TIMEOUT", default_value = "5min", value_parser = duration(TIMEOUTS))]
    pub all_or_nothing_timeout: Duration,
    /// Largest body of an all-or-nothing import in bytes. At most eight such bodies are kept at once,
    /// two of them of one client address, in memory up to 1 MiB each, else in files
    #[arg(long, env = "ALL_OR_NOTHING_MAX_BYTES", default_value_t = 256 * 1024 * 1024, value_parser = clap::value_parser!(u64).range(1024..=68_719_476_736))]
    pub all_or_nothing_max_bytes: u64,
    /// Directory for the bodies of all-or-nothing imports until they are complete; by default that of
    /// the system for temporary files. The files have no name and are gone with the process
    #[arg(long, env = "SPOOL_DIRECTORY", value_name = "DIRECTORY")]
    pub spool_directory: Option<PathBuf>,
}
