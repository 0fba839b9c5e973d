//! Everything that can be set, by flag or environment.

use std::{ops::RangeInclusive, time::Duration};

use clap::{Args, Parser, Subcommand};
use event_consumer::{ConsumerName, ConsumerSettings, dead_letters};
use secrecy::SecretString;
use service_runtime::{
    connection_url::ConnectionUrl,
    http::{HttpSettings, PerClientLimit},
    metrics::MetricsSettings,
    nats::{NatsSettings, Topic},
    settings::{ListenSettings, ProcessSettings, duration},
};

/// MongoDB keeps it as 32-bit seconds.
const TOMBSTONE_TTL: RangeInclusive<Duration> =
    Duration::from_hours(1)..=Duration::from_hours(24 * 365 * 10);

/// A copy of the users in MongoDB, kept up to date from NATS JetStream, and the API to read it.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Project the user events into MongoDB and serve the notifications API
    Serve(Box<ServeConfig>),
    /// See the events that could not be applied, and decide on them
    DeadLetters(DeadLettersConfig),
    /// Make the copy anew from the stream, and put it in the place of the old one in one step
    Rebuild(Box<RebuildConfig>),
    /// Compare the copy with the users while both go on; exit 0 only if they agree
    Verify(VerifyConfig),
    /// Exit 0 if the service on this host is ready
    Health(ListenSettings<8081>),
}

#[derive(Debug, Clone, Args)]
pub struct ServeConfig {
    #[command(flatten)]
    pub listen: ListenSettings<8081>,
    #[command(flatten)]
    pub http: HttpSettings,
    #[command(flatten)]
    pub limits: ReaderLimits,
    #[command(flatten)]
    pub mongo: MongoConfig,
    #[command(flatten)]
    pub projector: ProjectorConfig,
    /// Not ready while the copy is further behind the stream than this; no limit unless set
    #[arg(long, env = "MAX_LAG", value_parser = duration(Duration::from_secs(1)..=Duration::from_hours(24 * 365)))]
    pub max_lag: Option<Duration>,
    #[command(flatten)]
    pub verification: VerificationSettings,
    #[command(flatten)]
    pub metrics: MetricsSettings,
    #[command(flatten)]
    pub process: ProcessSettings,
}

/// The comparison of the copy with the users in the background.
#[derive(Debug, Clone, Args)]
pub struct VerificationSettings {
    /// Compare the copy with this user service in the background: http://host:8080, without TLS.
    /// Of several processes one does so at a time; not done unless set
    #[arg(long, env = "VERIFY_USERS", value_name = "URL", value_parser = http_url)]
    pub verify_users: Option<String>,
    /// How often all users are compared, from the beginning of one pass to that of the next (1s to
    /// 30days)
    #[arg(long, env = "VERIFY_EVERY", default_value = "1h", value_parser = duration(Duration::from_secs(1)..=Duration::from_hours(24 * 30)))]
    pub verify_every: Duration,
    /// How long a difference must last to be one (0s to 1h)
    #[arg(long, env = "VERIFY_SETTLE", default_value = "10s", value_parser = duration(Duration::ZERO..=Duration::from_hours(1)))]
    pub verify_settle: Duration,
    /// Users that are compared in a second at most, of the side that has more
    #[arg(long, env = "VERIFY_RATE", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=10_000_000))]
    pub verify_rate: u32,
    /// Have users who differ published again, unless the copy is behind the stream
    #[arg(long, env = "VERIFY_REPAIR")]
    pub verify_repair: bool,
    /// Token for the user service, if it needs one: of scope read, or repair with `--verify-repair`
    #[arg(long, env = "VERIFY_USERS_TOKEN", hide_env_values = true)]
    pub verify_users_token: Option<SecretString>,
}

/// Requests that take long, and so have limits of their own.
#[derive(Debug, Clone, Args)]
pub struct ReaderLimits {
    /// Clients that follow the changes at once
    #[arg(long, env = "MAX_FOLLOWERS", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_followers: u32,
    /// Of these, from one client address
    #[arg(long, env = "MAX_FOLLOWERS_PER_CLIENT", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_followers_per_client: u32,
    /// Reads that wait for a version at once
    #[arg(long, env = "MAX_WAITING_READS", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_waiting_reads: u32,
    /// Of these, from one client address
    #[arg(long, env = "MAX_WAITING_READS_PER_CLIENT", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_waiting_reads_per_client: u32,
}

impl ReaderLimits {
    pub(crate) fn followers(&self) -> PerClientLimit {
        limit(
            "followers",
            self.max_followers,
            self.max_followers_per_client,
        )
    }

    pub(crate) fn waiting(&self) -> PerClientLimit {
        let per_client = self.max_waiting_reads_per_client;
        limit("waiting reads", self.max_waiting_reads, per_client)
    }
}

fn limit(what: &'static str, total: u32, per_client: u32) -> PerClientLimit {
    let count = |number| usize::try_from(number).unwrap_or(usize::MAX);
    PerClientLimit::new(what, count(total), count(per_client))
}

#[derive(Debug, Clone, Args)]
pub struct MongoConfig {
    /// MongoDB: mongodb://user:password@host:port/?replicaSet=…
    #[arg(
        long,
        env = "MONGODB_URI",
        hide_env_values = true,
        default_value = "mongodb://localhost:27017"
    )]
    pub mongodb_uri: ConnectionUrl,
    /// Database that holds the copy
    #[arg(long, env = "MONGODB_DATABASE", default_value = "notifications_db", value_parser = database_name)]
    pub mongodb_database: String,
    /// Collection that holds the copy
    #[arg(long, env = "MONGODB_COLLECTION", default_value = "user_notifications", value_parser = collection_name)]
    pub mongodb_collection: String,
    /// How long a deleted user's tombstone stays after the deletion; must exceed the stream's
    /// maximum age by as long as an event may wait in the outbox
    #[arg(long, env = "TOMBSTONE_TTL", default_value = "30days", value_parser = duration(TOMBSTONE_TTL))]
    pub tombstone_ttl: Duration,
}

#[derive(Debug, Clone, Args)]
pub struct NatsConfig {
    #[command(flatten)]
    pub connection: NatsSettings,
    /// Stream that keeps the events
    #[arg(long, env = "NATS_STREAM", default_value = shared_events::DEFAULT_STREAM, value_parser = Topic::parse_stream)]
    pub stream: String,
    /// Subject that the events are published on
    #[arg(long, env = "NATS_SUBJECT", default_value = shared_events::DEFAULT_SUBJECT, value_parser = Topic::parse_subject)]
    pub subject: String,
    /// Durable consumer; services that share it share the work, the dead letters and the replays of
    /// them. One word of a subject
    #[arg(long, env = "NATS_CONSUMER", default_value = "notification-service")]
    pub consumer: ConsumerName,
}

impl NatsConfig {
    #[must_use]
    pub fn topic(&self) -> Topic {
        Topic {
            stream: self.stream.clone(),
            subject: self.subject.clone(),
        }
    }

    /// The subjects of the stream that are meant for this consumer.
    pub(crate) fn reads(&self) -> [String; 2] {
        self.consumer.reads(&self.topic())
    }
}

#[derive(Debug, Clone, Args)]
pub struct ProjectorConfig {
    #[command(flatten)]
    pub nats: NatsConfig,
    /// When an event is delivered again that a service took and did not acknowledge
    #[arg(long, env = "ACK_WAIT", default_value = "10s", value_parser = duration(Duration::from_secs(1)..=Duration::from_hours(1)))]
    pub ack_wait: Duration,
}

impl ProjectorConfig {
    pub(crate) fn consumer_settings(&self) -> ConsumerSettings {
        ConsumerSettings {
            nats: self.nats.connection.clone(),
            connection_name: "notification-service",
            topic: self.nats.topic(),
            consumer: self.nats.consumer.clone(),
            ack_wait: self.ack_wait,
        }
    }
}

#[derive(Debug, Args)]
pub struct RebuildConfig {
    #[command(flatten)]
    pub mongo: MongoConfig,
    #[command(flatten)]
    pub nats: NatsConfig,
    /// Swap even if users would disappear or go back, or the stream is not known to hold every user
    #[arg(long)]
    pub force: bool,
}

#[derive(Debug, Args)]
pub struct DeadLettersConfig {
    #[command(flatten)]
    pub nats: NatsConfig,
    #[command(subcommand)]
    pub command: dead_letters::Command,
}

#[derive(Debug, Args)]
pub struct VerifyConfig {
    /// The user service, without TLS: http://host:8080
    #[arg(long, value_name = "URL", value_parser = http_url)]
    pub users: String,
    /// The notification service, without TLS
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081", value_parser = http_url)]
    pub notifications: String,
    /// How long a difference must last to be one
    #[arg(long, default_value = "10s", value_parser = duration(Duration::ZERO..=Duration::from_hours(1)))]
    pub settle: Duration,
    /// Token for the user service, if it needs one: of scope repair with `--repair`
    #[arg(long, env = "USERS_TOKEN", hide_env_values = true)]
    pub users_token: Option<SecretString>,
    /// Token for the notification service, if it needs one
    #[arg(long, env = "NOTIFICATIONS_TOKEN", hide_env_values = true)]
    pub notifications_token: Option<SecretString>,
    /// Have the differing users published again, and look whether that mended it
    #[arg(long)]
    pub repair: bool,
    /// Read both lists from beginning to end instead of comparing digests of ranges
    #[arg(long)]
    pub full: bool,
    /// One JSON object a line: each difference, then the counts
    #[arg(long)]
    pub json: bool,
}

fn database_name(text: &str) -> Result<String, String> {
    let forbidden = |c: char| c.is_whitespace() || "/\\.\"$*<>:|?\0".contains(c);
    if text.is_empty() || text.len() > 63 || text.contains(forbidden) {
        return Err("must be 1 to 63 bytes without spaces and any of /\\.\"$*<>:|?".to_owned());
    }
    Ok(text.to_owned())
}

fn collection_name(text: &str) -> Result<String, String> {
    let reserved = text.starts_with("system.") || text.contains(['$', '\0']);
    if text.is_empty() || text.len() > 120 || reserved {
        return Err("must be 1 to 120 bytes without $ and not begin with `system.`".to_owned());
    }
    Ok(text.to_owned())
}

fn http_url(text: &str) -> Result<String, String> {
    match text.strip_prefix("http://") {
        // Errors name the URL.
        Some(host) if host.contains('@') => Err("must hold no password".to_owned()),
        Some(host) if !host.is_empty() => Ok(text.to_owned()),
        _ => Err("must begin with http:// and name a host".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::Cli;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_the_servers_would_refuse_is_refused_at_once() {
        for bad in [
            "--mongodb-database=a.b",
            "--mongodb-collection=system.users",
            "--stream=a b",
            "--consumer=a.b",
            "--verify-users=http://user:password@host",
            "--subject=user.*",
            "--drain-timeout=0s",
            "--tombstone-ttl=1s",
            "--max-lag=0s",
        ] {
            let parsed = Cli::try_parse_from(["notification-service", "serve", bad]);
            assert!(parsed.is_err(), "{bad}");
        }
    }
}
