//! The live page, and the feeds that it shows.

use std::str::FromStr;

use axum::http::uri::Authority;
use clap::Args;
use service_runtime::http::PerClientLimit;

#[derive(Debug, Clone, Args)]
pub struct LiveSettings {
    /// The notification service as browsers reach it, for the live page (`/live`): http:// or
    /// https:// with a host (no IPv6 address) and maybe a port; `none` leaves the copy out. Its CORS_ORIGINS must name
    /// the page's origin
    #[arg(
        long,
        env = "LIVE_COPY_URL",
        value_name = "URL",
        default_value = "http://localhost:8081"
    )]
    pub live_copy_url: CopyUrl,
    /// Clients that follow the outbox at once (`/outbox/stream`)
    #[arg(long, env = "MAX_OUTBOX_FOLLOWERS", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_outbox_followers: u32,
    /// Of these, from one client address
    #[arg(long, env = "MAX_OUTBOX_FOLLOWERS_PER_CLIENT", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_outbox_followers_per_client: u32,
}

impl LiveSettings {
    pub(crate) fn followers(&self) -> PerClientLimit {
        let count = |number| usize::try_from(number).unwrap_or(usize::MAX);
        PerClientLimit::new(
            "followers",
            count(self.max_outbox_followers),
            count(self.max_outbox_followers_per_client),
        )
    }
}

/// The notification service's address as browsers reach it, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyUrl(Option<String>);

impl CopyUrl {
    pub(crate) fn as_str(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl FromStr for CopyUrl {
    type Err = &'static str;

    /// It goes into a header, so nothing may stand in it that means something there. An IPv6 address is
    /// nothing that a `Content-Security-Policy` can name: browsers would block every call.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Self(None));
        }
        let url = text.strip_suffix('/').unwrap_or(text);
        let host = (url.strip_prefix("http://")).or_else(|| url.strip_prefix("https://"));
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        let is_host = |host: &&str| {
            host.bytes().all(is_allowed) && host.parse::<Authority>().is_ok_and(|it| it == **host)
        };
        match host.filter(is_host) {
            Some(_) => Ok(Self(Some(url.to_owned()))),
            None => Err(
                "must be http:// or https:// with a host (no IPv6 address) and maybe a port, or none",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::CopyUrl;

    #[test]
    fn only_the_address_of_a_service_is_taken() {
        for (text, url) in [
            ("http://localhost:8081", Some("http://localhost:8081")),
            ("https://copy.example/", Some("https://copy.example")),
            ("none", None),
        ] {
            let parsed: CopyUrl = text.parse().expect("an address");
            assert_eq!(parsed.as_str(), url);
        }
        for bad in [
            "",
            "localhost:8081",
            "ftp://copy.example",
            "http://",
            "http://copy.example/path",
            "http://me@copy.example",
            "http://copy.example; script-src *",
            "http://copy.example 'unsafe-inline'",
            "http://*",
            "http://[::1]:8081",
        ] {
            bad.parse::<CopyUrl>().expect_err(bad);
        }
    }
}
