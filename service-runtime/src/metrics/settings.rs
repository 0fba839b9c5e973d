//! Whether there are metrics, and for whom.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use secrecy::SecretString;

/// What `/metrics` answers, and to whom.
#[derive(Debug, Clone, Args)]
pub struct MetricsSettings {
    /// Whether metrics are collected and served at `/metrics`
    #[arg(long, env = "METRICS", value_enum, default_value_t = Collection::On)]
    pub metrics: Collection,
    /// Bearer token that `/metrics` needs, at least 16 visible ASCII characters; best set by the
    /// environment. Without a token metrics are served only where the process listens on loopback
    #[arg(
        long,
        env = "METRICS_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        conflicts_with = "metrics_token_file"
    )]
    pub metrics_token: Option<SecretString>,
    /// File with that token, read again for each request
    #[arg(long, env = "METRICS_TOKEN_FILE", value_name = "FILE")]
    pub metrics_token_file: Option<PathBuf>,
    /// Serve metrics without a token to whoever reaches the address
    #[arg(long, env = "METRICS_OPEN")]
    pub metrics_open: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Collection {
    On,
    Off,
}

impl Default for MetricsSettings {
    fn default() -> Self {
        Self {
            metrics: Collection::On,
            metrics_token: None,
            metrics_token_file: None,
            metrics_open: false,
        }
    }
}
