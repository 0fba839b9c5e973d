//! Connection strings, which may hold a password.

use std::{convert::Infallible, fmt, net::Ipv6Addr, str::FromStr};

use secrecy::{ExposeSecret, SecretString};

/// Those of the drivers that we use. Nothing is shown of a text that begins otherwise.
const SCHEMES: [&str; 8] = [
    "nats",
    "tls",
    "ws",
    "wss",
    "postgres",
    "postgresql",
    "mongodb",
    "mongodb+srv",
];

/// Where servers are and how to log in there. `Debug` and `Display` show scheme, host and port of
/// each server, and nothing at all of a text in which a password could be taken for these.
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
        f.write_str(&servers(self.expose()).unwrap_or_else(|| "<redacted>".to_owned()))
    }
}

impl fmt::Debug for ConnectionUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Scheme, host and port of each server of a text that can be read in one way only.
fn servers(text: &str) -> Option<String> {
    let urls = split_list(text);
    let with_login = urls.iter().filter(|url| url.contains('@')).count();
    // Else what looks like a URL without a login may be the beginning of the next one's password.
    if with_login != 0 && with_login != urls.len() {
        return None;
    }
    let shown: Option<Vec<_>> = urls.into_iter().map(without_secrets).collect();
    Some(shown?.join(","))
}

/// A comma separates URLs if a scheme follows; else hosts, or it is a part of a password.
fn split_list(text: &str) -> Vec<&str> {
    let mut urls = Vec::new();
    let mut begin = 0;
    for (comma, _) in text.match_indices(',') {
        if scheme_and_rest(text[comma + 1..].trim_start()).is_some() {
            urls.push(text[begin..comma].trim());
            begin = comma + 1;
        }
    }
    urls.push(text[begin..].trim());
    urls
}

fn without_secrets(url: &str) -> Option<String> {
    let (scheme, rest) = scheme_and_rest(url)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(end);
    // The login ends at the last `@`, and may hold any of these characters if it is not escaped.
    if after.contains('@') {
        return None;
    }
    let hosts = authority.rsplit('@').next()?;
    hosts
        .split(',')
        .all(is_host)
        .then(|| format!("{scheme}://{hosts}"))
}

fn scheme_and_rest(url: &str) -> Option<(&'static str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let known = SCHEMES
        .iter()
        .find(|known| known.eq_ignore_ascii_case(scheme));
    Some((known?, rest))
}

/// A name or an address, and maybe a port.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_name = |host: &str| {
        let mut bytes = host.bytes();
        !host.is_empty() && bytes.all(|it| it.is_ascii_alphanumeric() || b"-._".contains(&it))
    };
    let is_ipv6 = |host: &str| {
        let address = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        address.is_some_and(|it| it.parse::<Ipv6Addr>().is_ok())
    };
    (is_name(host) || is_ipv6(host)) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::select};

    use super::ConnectionUrl;

    fn shown(text: &str) -> String {
        let url: ConnectionUrl = text.parse().expect("a URL");
        assert_eq!(url.expose(), text);
        assert_eq!(format!("{url}"), format!("{url:?}"));
        url.to_string()
    }

    /// Where a secret can stand.
    const PLACES: [&str; 23] = [
        "postgres://ada:SECRET@db:5432/users_db",
        "postgres://SECRET:x@db/users_db",
        "postgres://SECRET@db/users_db",
        "postgres://db/users_db?user=ada&password=SECRET",
        "postgres://db/users_db?user=ada&pasword=SECRET&sslmode=require",
        "postgres://db/SECRET",
        "postgres://db/users_db#SECRET",
        "postgres://ada:SECRET@a:1,b:2/users_db",
        "host=db port=5432 user=ada password=SECRET",
        "password=SECRET host=postgres://db",
        "nats://SECRET@nats.example:4222",
        "nats://ada:SECRET@a:4222,nats://eve:other@b:4222",
        "nats://ada:other@a:4222,nats://eve:SECRET@b:4222",
        "nats://ada:other@a:4222, tls://SECRET@b:4222",
        "nats://ada:other@a:4222,eve:SECRET@b:4222",
        "nats://a:4222,nats://eve:SECRET@b:4222",
        "nats://ada:SECRET@a:4222,nats://b:4222",
        "ada:SECRET@cluster",
        "mongodb+srv://ada:SECRET@cluster.example/db",
        "mongodb://ada:SECRET@a:27017,b:27017/db?replicaSet=rs0",
        "mongodb://a,b/?authMechanismProperties=AWS_SESSION_TOKEN:SECRET",
        "mongodb://a:27017/?tlsCertificateKeyFilePassword=SECRET",
        "SECRET",
    ];

    proptest! {
        #[test]
        fn a_secret_is_never_shown_wherever_it_stands(
            place in select(&PLACES[..]),
            before in "[a-z0-9@:/?#,;%&= \\[\\]\\\\.-]{0,6}",
            secret in select(&["hunter2", "54321"][..]),
            after in "[a-z0-9@:/?#,;%&= \\[\\]\\\\.-]{0,6}",
        ) {
            let text = place.replace("SECRET", &format!("{before}{secret}{after}"));
            prop_assert!(!shown(&text).contains(secret), "{text}: {}", shown(&text));
        }

        #[test]
        fn not_even_a_password_that_looks_like_a_list_is_shown(
            password in "(54321|hunter2|[@:/,?])?(,nats://|,tls://)?(54321|hunter2)[@/,:]?",
        ) {
            let text = format!("nats://ada:{password}@a:4222,nats://b:{password}@b:4222");
            let shown = shown(&text);
            prop_assert!(!shown.contains("54321") && !shown.contains("hunter2"), "{text}: {shown}");
        }
    }

    #[test]
    fn the_servers_are_shown_to_whoever_reads_the_log() {
        for (text, servers) in [
            ("nats://token@nats.example:4222", "nats://nats.example:4222"),
            (
                "nats://u:p@a:1,tls://v:q@[::1]:2",
                "nats://a:1,tls://[::1]:2",
            ),
            ("nats://a:1, nats://b", "nats://a:1,nats://b"),
            (
                "postgres://ada@db:5432/users_db?sslmode=require",
                "postgres://db:5432",
            ),
            (
                "mongodb://u:p@a:1,b:2/db?replicaSet=rs0",
                "mongodb://a:1,b:2",
            ),
            (
                "MongoDB+SRV://cluster.example",
                "mongodb+srv://cluster.example",
            ),
            ("postgres://ada:p@%2Fvar%2Frun/db", "<redacted>"),
        ] {
            assert_eq!(shown(text), servers, "{text}");
        }
    }
}
