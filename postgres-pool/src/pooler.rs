//! A pooler, such as `PgBouncer`, between the program and Postgres.
//!
//! In transaction mode each transaction may run on another connection to the server. So whatever a
//! session would keep has to be in the transaction itself: its first round trip begins it and sets its
//! timeouts, statements are prepared without a name and executed in the same transaction, and nothing is
//! left behind for the pooler's other clients.

use std::str::FromStr;

use clap::{Args, ValueEnum};
use service_runtime::connection_url::ConnectionUrl;
use sqlx::{Execute, Postgres, SqlStr, error::BoxDynError, postgres::PgArguments};

/// Whether a pooler is in between, and how to get past it.
#[derive(Debug, Clone, Default, Args)]
pub struct PoolerSettings {
    /// What `DATABASE_URL` leads to: Postgres itself, or a pooler such as `PgBouncer` in this mode
    #[arg(
        long,
        env = "DATABASE_POOLER",
        value_name = "MODE",
        default_value = "none",
        global = true
    )]
    pub database_pooler: Pooler,
    /// Postgres itself, for migrations, which lock the schema in a session of their own; needed if
    /// `DATABASE_POOLER` is `transaction`
    #[arg(
        long,
        env = "MIGRATION_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true,
        global = true
    )]
    pub migration_database_url: Option<ConnectionUrl>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Pooler {
    /// No pooler
    #[default]
    None,
    /// Each connection has one of the server's to itself for as long as it is open
    Session,
    /// Each transaction gets whichever connection to the server is free
    Transaction,
}

/// Where the database is. A URL alone leads to Postgres itself.
#[derive(Debug, Clone)]
pub struct Database {
    pub url: ConnectionUrl,
    pub pooler: PoolerSettings,
}

impl FromStr for Database {
    type Err = <ConnectionUrl as FromStr>::Err;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        Ok(Self {
            url: url.parse()?,
            pooler: PoolerSettings::default(),
        })
    }
}

impl Database {
    /// Where migrations are to run, and what is in between there.
    pub(super) fn for_migrations(&self) -> anyhow::Result<(&ConnectionUrl, Pooler)> {
        let PoolerSettings {
            database_pooler: pooler,
            migration_database_url,
        } = &self.pooler;
        match (migration_database_url, pooler) {
            (Some(direct), _) => Ok((direct, Pooler::None)),
            (None, Pooler::None | Pooler::Session) => Ok((&self.url, *pooler)),
            (None, Pooler::Transaction) => anyhow::bail!(
                "DATABASE_POOLER is transaction, and MIGRATION_DATABASE_URL is not set: migrations \
                 need a URL that leads to Postgres itself"
            ),
        }
    }
}

/// A statement that is prepared without a name, each time that it is executed: a name would be known to
/// one connection of the server only, and stay there.
pub(super) struct Unnamed<E>(pub(super) E);

impl<'q, E: Execute<'q, Postgres>> Execute<'q, Postgres> for Unnamed<E> {
    fn sql(self) -> SqlStr {
        self.0.sql()
    }

    fn statement(&self) -> Option<&sqlx::postgres::PgStatement> {
        None
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, BoxDynError> {
        self.0.take_arguments()
    }

    fn persistent(&self) -> bool {
        false
    }
}
