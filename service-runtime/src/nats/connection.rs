//! Connecting to NATS.

use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use clap::Args;
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};

use crate::{
    backoff,
    connection_url::ConnectionUrl,
    metrics::{Held, NATS_CONNECTED},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection is given up after three pings in a row without an answer, so a silent one is noticed
/// within 12 s.
const PING_INTERVAL: Duration = Duration::from_secs(3);

/// Where NATS is, and how to be let in: the same for both services.
#[derive(Debug, Clone, Args)]
pub struct NatsSettings {
    /// NATS servers, separated by commas; with `tls://` nothing but TLS will do
    #[arg(
        id = "nats_url",
        long = "nats-url",
        env = "NATS_URL",
        hide_env_values = true,
        default_value = "nats://localhost:4222"
    )]
    pub url: ConnectionUrl,
    /// PEM file with the authorities that vouch for the servers; the system's unless set
    #[arg(long = "nats-ca-file", env = "NATS_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// PEM file with the certificate to show the servers
    #[arg(
        long = "nats-certificate-file",
        env = "NATS_CERTIFICATE_FILE",
        value_name = "FILE",
        requires = "key_file"
    )]
    pub certificate_file: Option<PathBuf>,
    /// PEM file with the key of that certificate
    #[arg(
        long = "nats-key-file",
        env = "NATS_KEY_FILE",
        value_name = "FILE",
        requires = "certificate_file"
    )]
    pub key_file: Option<PathBuf>,
    /// Credentials file (`.creds`: a user's JWT and seed)
    #[arg(
        long = "nats-credentials-file",
        env = "NATS_CREDENTIALS_FILE",
        value_name = "FILE",
        conflicts_with = "nkey_file"
    )]
    pub credentials_file: Option<PathBuf>,
    /// File with an nkey's seed
    #[arg(long = "nats-nkey-file", env = "NATS_NKEY_FILE", value_name = "FILE")]
    pub nkey_file: Option<PathBuf>,
}

impl NatsSettings {
    /// Servers that let anybody in.
    #[must_use]
    pub fn open(url: ConnectionUrl) -> Self {
        Self {
            url,
            ca_file: None,
            certificate_file: None,
            key_file: None,
            credentials_file: None,
            nkey_file: None,
        }
    }
}

/// Connects, waiting for as long as it takes; after that the client reconnects by itself.
///
/// `name` is what the server's monitor shows for the connection. Has no bound of its own: run it
/// under the shutdown token.
///
/// # Errors
/// If a setting is not valid, or a file that it names: no waiting would mend that.
pub async fn connect(settings: &NatsSettings, name: &'static str) -> anyhow::Result<Client> {
    let (servers, options) = prepare(settings, name)?;
    let attempt = || options.clone().connect(&servers[..]);
    let client = backoff::wait_for("NATS", attempt).await;
    tracing::info!(server = %settings.url, "connected to NATS");
    warn_of_old_server(&client);
    Ok(client)
}

/// The same with one attempt: for what can do without.
///
/// # Errors
/// If no server can be reached now, or a setting is not valid.
pub async fn connect_once(settings: &NatsSettings, name: &'static str) -> anyhow::Result<Client> {
    let (servers, options) = prepare(settings, name)?;
    Ok(options.connect(&servers[..]).await?)
}

fn prepare(
    settings: &NatsSettings,
    name: &'static str,
) -> anyhow::Result<(Vec<ServerAddr>, ConnectOptions)> {
    let servers = servers(&settings.url)?;
    let options = with_credentials(options(settings, name)?, &servers)?;
    Ok((servers, options))
}

/// Servers before 2.14 lose more than they have to, and don't tell.
fn warn_of_old_server(client: &Client) {
    let version = client.server_info().version;
    if is_old(&version) {
        tracing::warn!(
            version,
            "this NATS server is older than 2.14: after a crash or a damaged disk a consumer that is \
             ahead of its stream stands still or skips messages, deleted messages can come back, and a \
             damaged snapshot can cost a whole stream; run 2.14 or later"
        );
    }
}

/// Before 2.14.0. What can't be read as a version is none of its releases.
fn is_old(version: &str) -> bool {
    let mut numbers = version
        .split(['.', '-'])
        .map_while(|it| it.parse::<u64>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) < (2, 14),
        _ => false,
    }
}

fn options(settings: &NatsSettings, name: &'static str) -> anyhow::Result<ConnectOptions> {
    let connection = Connection::new(name);
    let mut options = ConnectOptions::new()
        .name(name)
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .ping_interval(PING_INTERVAL)
        .reconnect_delay_callback(reconnect_delay)
        .event_callback(move |event| {
            connection.note(&event);
            async {}
        });
    if let Some(file) = &settings.ca_file {
        options = options.add_root_certificates(file.clone());
    }
    if let (Some(certificate), Some(key)) = (&settings.certificate_file, &settings.key_file) {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    if let Some(file) = &settings.credentials_file {
        options = (options.credentials(secret(file)?.expose_secret()))
            .with_context(|| format!("{} holds no credentials", file.display()))?;
    }
    if let Some(file) = &settings.nkey_file {
        options = options.nkey(secret(file)?.expose_secret().trim().to_owned());
    }
    Ok(options)
}

/// The client itself does not read what a URL says before the `@`. The first URL that has a user, or
/// a token, counts for all servers: those that are discovered later have no URL.
fn with_credentials(
    options: ConnectOptions,
    servers: &[ServerAddr],
) -> anyhow::Result<ConnectOptions> {
    let named = servers.iter().find(|server| server.username().is_some());
    let Some((server, user)) = named.and_then(|it| Some((it, it.username()?))) else {
        return Ok(options);
    };
    let user = decode(user)?;
    Ok(match server.password() {
        Some(password) => options.user_and_password(user, decode(password)?),
        None => options.token(user),
    })
}

fn decode(text: &str) -> anyhow::Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    // The error would quote what may be a password.
    let decoded = decoded.map_err(|_| anyhow::anyhow!("the credentials in NATS_URL are not UTF-8"));
    Ok(decoded?.into_owned())
}

fn secret(file: &PathBuf) -> anyhow::Result<SecretString> {
    let text = fs::read_to_string(file);
    Ok(text
        .with_context(|| format!("reading {}", file.display()))?
        .into())
}

/// From 50 ms doubling to 1 s: a server that is back is not kept waiting.
fn reconnect_delay(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
    let delay = Duration::from_millis(50).saturating_mul(2_u32.saturating_pow(doublings.min(10)));
    delay.min(Duration::from_secs(1))
}

/// One URL or several, separated by commas, as every NATS client takes them.
fn servers(url: &ConnectionUrl) -> anyhow::Result<Vec<ServerAddr>> {
    let parse = |server: &str| {
        // The driver's error repeats the text, which may hold a password.
        (server.trim().parse()).map_err(|_| anyhow::anyhow!("NATS_URL is not a valid NATS URL"))
    };
    url.expose().split(',').map(parse).collect()
}

/// What is known of a connection, for as long as its client lives.
struct Connection {
    connected: metrics::Gauge,
    is_connected: Mutex<Option<Held>>,
}

impl Connection {
    fn new(name: &'static str) -> Self {
        Self {
            connected: NATS_CONNECTED.with([name]),
            is_connected: Mutex::default(),
        }
    }

    fn note(&self, event: &Event) {
        let mut is_connected = (self.is_connected.lock()).unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Connected => *is_connected = Some(Held::new(&self.connected)),
            Event::Disconnected | Event::Closed => *is_connected = None,
            _ => {}
        }
        match event {
            Event::Connected | Event::Closed => tracing::debug!(%event, "NATS"),
            Event::Disconnected => tracing::warn!("NATS connection lost; reconnecting"),
            other => tracing::warn!(event = %other, "NATS"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_old;

    #[test]
    fn servers_before_2_14_are_old() {
        for old in ["2.12.14", "2.13.0", "1.4.1", "2.9.25-RC.1"] {
            assert!(is_old(old), "{old}");
        }
        for new in ["2.14.0", "2.15.1", "2.14.0-RC.1", "3.0.0", "main"] {
            assert!(!is_old(new), "{new}");
        }
    }
}
