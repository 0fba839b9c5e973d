//! Connection strings, which may hold a password.

use std::{convert::Infallible, fmt, str::FromStr};

use secrecy::{ExposeSecret, SecretString};
use url::Url;

/// Where a server is and how to log in there. `Debug` and `Display` show neither user, password
/// nor query, and nothing at all of a string that is not a plain URL.
#[derive(Clone)]
pub struct ConnectionUrl(SecretString);

impl ConnectionUrl {
    /// The whole string, for the driver that connects with it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl FromStr for ConnectionUrl {
    type Err = Infallible;

    /// Takes any text: whoever refuses it here would have it repeated in the command line's error.
    /// The driver says whether it understands it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.into()))
    }
}

impl fmt::Display for ConnectionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = Url::parse(self.expose()).ok();
        let Some((url, host)) = url.as_ref().and_then(|url| Some((url, url.host_str()?))) else {
            return f.write_str("<redacted>");
        };
        write!(f, "{}://{host}", url.scheme())?;
        if let Some(port) = url.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(url.path())
    }
}

impl fmt::Debug for ConnectionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::ConnectionUrl;

    fn shown(text: &str) -> String {
        let url: ConnectionUrl = text.parse().expect("a URL");
        assert_eq!(url.expose(), text);
        format!("{url} {url:?}")
    }

    #[test]
    fn a_password_is_never_shown() {
        for text in [
            "postgres://ada:hunter2@db:5432/users_db",
            "postgres://db/users_db?user=ada&password=hunter2",
            "postgres://ada:hunter2@a:1,b:2/users_db",
            "postgres://ada:hun?hunter2@db/users_db",
            "mongodb+srv://ada:hunter2@cluster/db",
            "ada:hunter2@cluster",
        ] {
            assert!(!shown(text).contains("hunter2"), "{text}: {}", shown(text));
        }
    }

    #[test]
    fn the_host_is_shown_to_whoever_reads_the_log() {
        assert_eq!(
            shown("nats://token@nats.example:4222"),
            "nats://nats.example:4222 nats://nats.example:4222"
        );
    }
}
