//! Everything that can be set, by flag or environment.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use outbox::{RelayConfig, admin::AdminCommand};
use postgres_pool::{Database, PoolerSettings};
use service_runtime::{
    connection_url::ConnectionUrl,
    metrics::MetricsSettings,
    settings::{ProcessSettings, duration},
};

/// Publishes the events of a transactional outbox in Postgres to NATS JetStream.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) database: DatabaseConfig,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct DatabaseConfig {
    /// Postgres 14 or later: postgres://user:password@host:port/database?sslmode=…; one host, which
    /// leads to the primary
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true)]
    pub(crate) database_url: Option<ConnectionUrl>,
    #[command(flatten)]
    pub(crate) pooler: PoolerSettings,
}

impl DatabaseConfig {
    pub(crate) fn database(self) -> anyhow::Result<Database> {
        let url = (self.database_url).context("say --database-url, or set DATABASE_URL")?;
        Ok(Database {
            url,
            pooler: self.pooler,
        })
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Publish events until stopped; any number may run, one is active at a time
    Run(Box<RunConfig>),
    /// Create the schema `outbox`, or bring it up to date, and exit
    Migrate,
    /// Show each stream and the relay; exit code 3 if something needs attention
    Status(StatusConfig),
    #[command(flatten)]
    Admin(AdminCommand),
    /// Publish a parked event after all
    Retry {
        id: i64,
        /// Even if its aggregate has later events: it is published after them, with its old state
        #[arg(long)]
        out_of_order: bool,
    },
    /// Remove the cursor of a stream that is no longer configured; asks first
    Forget {
        stream: String,
        /// Don't ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RunConfig {
    /// Address that answers `/livez`, `/readyz` and `/metrics`; port 0 takes a free one, which the log names
    #[arg(long, env = "RELAY_LISTEN_ADDR", default_value = "127.0.0.1:0")]
    pub(crate) listen_addr: SocketAddr,
    #[command(flatten)]
    pub(crate) relay: RelayConfig,
    #[command(flatten)]
    pub(crate) metrics: MetricsSettings,
    #[command(flatten)]
    pub(crate) process: ProcessSettings,
}

#[derive(Debug, Args)]
pub(crate) struct StatusConfig {
    /// Events that have waited for longer than this need attention (1s to 1day)
    #[arg(long, default_value = "1min", value_parser = duration(Duration::from_secs(1)..=Duration::from_hours(24)))]
    pub(crate) max_age: Duration,
}
