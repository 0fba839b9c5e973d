//! Postgres: a database for each test, or servers that take each other's place.

mod backup;
mod home;
mod server;

use std::str::FromStr;

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool, postgres::PgConnectOptions,
};

pub(crate) use self::home::Home;
pub use self::{
    backup::{Archive, BaseBackup},
    home::run,
    server::Server,
};
use crate::{required, unique};

/// A database that no other test knows, on the shared server.
#[derive(Debug)]
pub struct Database {
    pub url: String,
    pub pool: PgPool,
}

impl Database {
    /// # Panics
    /// If the server can't be reached.
    pub async fn create() -> Self {
        let server = required("TEST_DATABASE_URL");
        let server = PgConnectOptions::from_str(&server).expect("a Postgres URL");
        let mut connection = PgConnection::connect_with(&server)
            .await
            .expect("the shared Postgres");
        let name = unique("test");
        // Nobody else uses template0, so tests that create theirs at once don't disturb it.
        let create = format!("create database {name} template template0");
        sqlx::raw_sql(AssertSqlSafe(create))
            .execute(&mut connection)
            .await
            .expect("a new database");
        let options = server.database(&name);
        Self {
            url: options.to_url_lossy().to_string(),
            pool: PgPool::connect_lazy_with(options),
        }
    }
}

impl Database {
    /// One that is there already.
    ///
    /// # Panics
    /// If the URL is not valid.
    #[must_use]
    pub fn at(url: String) -> Self {
        let pool = PgPool::connect_lazy(&url).expect("a Postgres URL");
        Self { url, pool }
    }
}
