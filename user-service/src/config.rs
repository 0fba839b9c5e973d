//! Everything that can be set, by flag or environment.

mod imports;
mod live;

use std::{net::SocketAddr, time::Duration};

use clap::{Args, Parser, Subcommand};
use outbox::{RelayConfig, Route, Routes, admin::AdminCommand};
use postgres_pool::{Database, PoolerSettings};
use service_runtime::{
    connection_url::ConnectionUrl,
    http::HttpSettings,
    metrics::MetricsSettings,
    nats::Topic,
    settings::{ListenSettings, ProcessSettings, duration},
};

pub use self::{
    imports::ImportSettings,
    live::{CopyUrl, LiveSettings},
};

/// Users in Postgres, and the relay that brings every change of them to NATS JetStream.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the user API, with the relay in the same process
    Serve(Box<ServeConfig>),
    /// Run the relay alone; any number may run, one is active at a time
    Relay(Box<RelayRoleConfig>),
    /// Bring the database schema up to date and exit
    Migrate(DatabaseConfig),
    /// See what waits in the outbox, and decide on parked events
    Outbox(OutboxConfig),
    /// Put the present state of every user on the stream again, to rebuild a copy
    Republish(RepublishConfig),
    /// Exit 0 if the service on this host is ready
    Health(ListenSettings<8080>),
}

#[derive(Debug, Clone, Args)]
pub struct ServeConfig {
    #[command(flatten)]
    pub listen: ListenSettings<8080>,
    #[command(flatten)]
    pub http: HttpSettings,
    #[command(flatten)]
    pub database: DatabaseConfig,
    #[command(flatten)]
    pub topic: TopicConfig,
    #[command(flatten)]
    pub relay: RelayConfig,
    #[command(flatten)]
    pub metrics: MetricsSettings,
    #[command(flatten)]
    pub process: ProcessSettings,
    /// Leave the outbox to a relay in another process
    #[arg(long, env = "NO_RELAY")]
    pub no_relay: bool,
    /// Most connections to Postgres that requests use at once, half of them for reads, half for
    /// changes
    #[arg(long, env = "DATABASE_CONNECTIONS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub database_connections: u32,
    /// Refuse changes and deletions that do not say by If-Match which version they are meant for
    #[arg(long, env = "REQUIRE_IF_MATCH")]
    pub require_if_match: bool,
    /// How long the answer to a request with an Idempotency-Key is kept, at least
    #[arg(long, env = "IDEMPOTENCY_RETENTION", default_value = "1day", value_parser = duration(Duration::from_secs(1)..=Duration::from_hours(365 * 24)))]
    pub idempotency_retention: Duration,
    #[command(flatten)]
    pub imports: ImportSettings,
    #[command(flatten)]
    pub live: LiveSettings,
}

#[derive(Debug, Clone, Args)]
pub struct RelayRoleConfig {
    /// Address that answers `/livez`, `/readyz` and `/metrics`; port 0 takes a free one, which the log names
    #[arg(long, env = "RELAY_LISTEN_ADDR", default_value = "127.0.0.1:0")]
    pub listen_addr: SocketAddr,
    #[command(flatten)]
    pub database: DatabaseConfig,
    #[command(flatten)]
    pub topic: TopicConfig,
    #[command(flatten)]
    pub relay: RelayConfig,
    #[command(flatten)]
    pub metrics: MetricsSettings,
    #[command(flatten)]
    pub process: ProcessSettings,
}

#[derive(Debug, Clone, Args)]
pub struct DatabaseConfig {
    /// Postgres 14 or later: postgres://user:password@host:port/database?sslmode=…; one host, which
    /// leads to the primary
    #[arg(
        long,
        env = "DATABASE_URL",
        hide_env_values = true,
        default_value = "postgres://postgres@localhost:5432/users_db"
    )]
    pub database_url: ConnectionUrl,
    #[command(flatten)]
    pub pooler: PoolerSettings,
}

impl DatabaseConfig {
    pub(crate) fn database(&self) -> Database {
        Database {
            url: self.database_url.clone(),
            pooler: self.pooler.clone(),
        }
    }
}

/// Where the events of users go.
#[derive(Debug, Clone, Args)]
pub struct TopicConfig {
    /// Stream that keeps the events of users
    #[arg(long, env = "NATS_STREAM", default_value = shared_events::DEFAULT_STREAM, value_parser = Topic::parse_stream)]
    pub stream: String,
    /// Subject that the events of users are published on
    #[arg(long, env = "NATS_SUBJECT", default_value = shared_events::DEFAULT_SUBJECT, value_parser = Topic::parse_subject)]
    pub subject: String,
}

impl TopicConfig {
    #[must_use]
    pub fn topic(&self) -> Topic {
        Topic {
            stream: self.stream.clone(),
            subject: self.subject.clone(),
        }
    }

    /// Users first, then what else is to be routed.
    ///
    /// # Errors
    /// If a route contradicts another, or that of users.
    pub fn routes(&self, others: &[Route]) -> anyhow::Result<Routes> {
        let users = Route {
            aggregate_type: "user".to_owned(),
            topic: self.topic(),
        };
        Routes::new([&[users], others].concat())
    }
}

#[derive(Debug, Args)]
pub struct OutboxConfig {
    #[command(flatten)]
    pub database: DatabaseConfig,
    #[command(subcommand)]
    pub command: OutboxCommand,
}

#[derive(Debug, Subcommand)]
pub enum OutboxCommand {
    #[command(flatten)]
    Admin(AdminCommand),
    /// Publish a parked event after all, unless its user has changed since
    Retry { id: i64 },
}

#[derive(Debug, Args)]
pub struct RepublishConfig {
    #[command(flatten)]
    pub database: DatabaseConfig,
    #[command(flatten)]
    pub topic: TopicConfig,
    #[command(flatten)]
    pub from: RepublishFrom,
    /// Most users a second
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,
}

/// Where to begin.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct RepublishFrom {
    /// Every user
    #[arg(long)]
    pub all: bool,
    /// Only users with a greater id, to go on where an earlier run ended
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(i64).range(0..))]
    pub since: Option<i64>,
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
