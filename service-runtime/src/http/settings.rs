//! How an API is served: the same for both services.

use std::{net::SocketAddr, path::PathBuf};

use clap::{ArgAction, Args};
use secrecy::SecretString;

use super::{client, connection_settings::ConnectionSettings};

/// Who may ask, how often, and from where.
#[derive(Debug, Clone, Args)]
pub struct HttpSettings {
    /// File of valid tokens, a line each: `read TOKEN`, `write TOKEN` (may read too) or `repair
    /// TOKEN` (may read, and repair what others made). Read again within a second after it
    /// changes; if it is not valid then, the former tokens stay. A token that is removed ends the
    /// streams and imports that were begun with it. Several may be valid at once, so that they can
    /// be replaced without a gap
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
    /// Trusted proxies in front of the service, each of which appends the address of its peer to
    /// X-Forwarded-For. Limits per client go by that entry, counted from the right; by the peer's
    /// address if 0. IPv6 clients count by their /64 network
    #[arg(long, env = "TRUSTED_HOPS", default_value_t = 0, value_name = "PROXIES", value_parser = clap::value_parser!(u8).range(..=16))]
    pub trusted_hops: u8,
    /// Replaced by `trusted_hops`
    #[arg(long, env = "TRUST_FORWARDED_FOR", hide = true, action = ArgAction::Set, num_args = 0..=1, default_value = "false", default_missing_value = "true", value_parser = client::replaced_by_trusted_hops)]
    pub trust_forwarded_for: bool,
    /// Host names, without port, that requests may name beside localhost and loopback addresses,
    /// separated by commas; `*` for any. Unless set, names are checked only where the service
    /// listens on loopback and needs no token, because there a web page could reach it by a name
    /// of its own (DNS rebinding)
    #[arg(
        long,
        env = "ALLOWED_HOSTS",
        value_delimiter = ',',
        value_name = "NAMES"
    )]
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages that may call, such as https://app.example, separated by commas; `*`
    /// for any; none unless set. Without tokens, changes that pages of other origins ask for are
    /// refused
    #[arg(
        long,
        env = "CORS_ORIGINS",
        value_delimiter = ',',
        value_name = "ORIGINS"
    )]
    pub cors_origins: Vec<String>,
    #[command(flatten)]
    pub connections: ConnectionSettings,
}

const MAX_CONCURRENT_REQUESTS: u32 = 1024;

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            token_file: None,
            tokens: None,
            max_concurrent_requests: MAX_CONCURRENT_REQUESTS,
            rate_limit: None,
            trusted_hops: 0,
            trust_forwarded_for: false,
            allowed_hosts: Vec::new(),
            cors_origins: Vec::new(),
            connections: ConnectionSettings::default(),
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::HttpSettings;

    #[derive(Debug, Parser)]
    struct CommandLine {
        #[command(flatten)]
        http: HttpSettings,
    }

    #[test]
    fn the_former_setting_for_proxies_names_the_present_one() {
        let parse = |argument| CommandLine::try_parse_from(["serve", argument]);
        let error = parse("--trust-forwarded-for").expect_err("it was replaced");
        assert!(error.to_string().contains("TRUSTED_HOPS"), "{error}");
        let settings = parse("--trust-forwarded-for=false")
            .expect("no proxies")
            .http;
        assert_eq!(settings.trusted_hops, 0);
    }
}
