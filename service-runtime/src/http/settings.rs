//! How an API is served: the same for both services.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use secrecy::SecretString;

/// Who may ask, how often, and from where.
#[derive(Debug, Clone, Args)]
pub struct HttpSettings {
    /// File of tokens that may ask, a line each: `read TOKEN` or `write TOKEN`. Several may be
    /// valid at once, so that they can be replaced without a gap
    #[arg(long, env = "API_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The same without a file, separated by commas; best set by the environment
    #[arg(
        long,
        env = "API_TOKENS",
        hide_env_values = true,
        value_name = "TOKENS"
    )]
    pub tokens: Option<SecretString>,
    /// Requests in hand at once; those above it are refused at once
    #[arg(long, env = "MAX_CONCURRENT_REQUESTS", default_value_t = MAX_CONCURRENT_REQUESTS, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_concurrent_requests: u32,
    /// Requests a second that each client address may send, in bursts of at most as many; no limit
    /// unless set
    #[arg(long, env = "RATE_LIMIT", value_name = "REQUESTS", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate_limit: Option<u32>,
    /// Take the client's address from X-Forwarded-For and its like: only behind a proxy that
    /// writes it
    #[arg(long, env = "TRUST_FORWARDED_FOR")]
    pub trust_forwarded_for: bool,
    /// Origins of web pages that may call, separated by commas; none unless set
    #[arg(
        long,
        env = "CORS_ORIGINS",
        value_delimiter = ',',
        value_name = "ORIGINS"
    )]
    pub cors_origins: Vec<String>,
}

const MAX_CONCURRENT_REQUESTS: u32 = 1024;

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            token_file: None,
            tokens: None,
            max_concurrent_requests: MAX_CONCURRENT_REQUESTS,
            rate_limit: None,
            trust_forwarded_for: false,
            cors_origins: Vec::new(),
        }
    }
}

impl HttpSettings {
    pub(super) fn has_tokens(&self) -> bool {
        self.tokens.is_some() || self.token_file.is_some()
    }

    /// Says who can reach the API.
    pub(super) fn announce(&self, address: SocketAddr) {
        if self.has_tokens() {
            tracing::info!("requests need a token");
        } else if address.ip().is_loopback() {
            tracing::info!("no tokens are set: whoever is on this host can read and write");
        } else {
            tracing::warn!(%address, "no tokens are set: whoever reaches this address can read and write");
        }
    }
}
