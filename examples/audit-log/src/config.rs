//! Everything that can be set, by flag or environment.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use event_consumer::{ConsumerName, dead_letters};
use postgres_pool::{Database, PoolerSettings};
use service_runtime::{
    connection_url::ConnectionUrl,
    metrics::MetricsSettings,
    nats::{NatsSettings, Topic},
    settings::{ListenSettings, ProcessSettings, duration},
};

/// An audit log of the users in Postgres, kept up to date from NATS JetStream.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Record the user events, and answer health checks
    Serve(Box<ServeConfig>),
    /// See the events that could not be recorded, and decide on them
    DeadLetters(Box<DeadLettersConfig>),
    /// Exit 0 if the service on this host is ready
    Health(ListenSettings<8082>),
}

#[derive(Debug, Clone, Args)]
pub struct ServeConfig {
    #[command(flatten)]
    pub listen: ListenSettings<8082>,
    /// Postgres 14 or later: postgres://user:password@host:port/database?sslmode=…
    #[arg(
        long,
        env = "DATABASE_URL",
        hide_env_values = true,
        default_value = "postgres://postgres@localhost:5432/audit_log"
    )]
    pub database_url: ConnectionUrl,
    #[command(flatten)]
    pub pooler: PoolerSettings,
    #[command(flatten)]
    pub nats: NatsConfig,
    /// When an event is delivered again that a service took and did not acknowledge (1s to 1h)
    #[arg(long, env = "ACK_WAIT", default_value = "10s", value_parser = duration(Duration::from_secs(1)..=Duration::from_hours(1)))]
    pub ack_wait: Duration,
    #[command(flatten)]
    pub metrics: MetricsSettings,
    #[command(flatten)]
    pub process: ProcessSettings,
}

impl ServeConfig {
    pub(crate) fn database(&self) -> Database {
        Database {
            url: self.database_url.clone(),
            pooler: self.pooler.clone(),
        }
    }
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
    /// Durable consumer; services that share it share the work. One word of a subject
    #[arg(long, env = "NATS_CONSUMER", default_value = "audit-log")]
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
}

#[derive(Debug, Args)]
pub struct DeadLettersConfig {
    #[command(flatten)]
    pub nats: NatsConfig,
    #[command(subcommand)]
    pub command: dead_letters::Command,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
