//! Postgres: a database for each test, or servers that take each other's place.

use std::{env, fs, os::unix::fs::MetadataExt, path::Path, process::Command, str::FromStr};

use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool, postgres::PgConnectOptions,
};

use tempfile::TempDir;

use crate::{Process, eventually, free_port, required, unique};

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

/// A server of the test's own, a primary or a standby.
#[derive(Debug)]
pub struct Server {
    port: u16,
    process: Process,
    _data: TempDir,
}

impl Server {
    /// A primary.
    ///
    /// # Panics
    /// If it can't be reached within a minute.
    pub async fn start() -> Self {
        let arguments = ["--username=postgres", "--auth=trust", "--no-sync"];
        Self::run("initdb", &arguments).await
    }

    /// Follows this primary, asynchronously.
    ///
    /// # Panics
    /// If it can't be reached within a minute.
    pub async fn standby(&self) -> Self {
        let port = format!("--port={}", self.port);
        let arguments = ["--host=127.0.0.1", &port, "--username=postgres"];
        let copy = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync"];
        Self::run("pg_basebackup", &[arguments, copy].concat()).await
    }

    /// `host:port`
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Of the database that each server has.
    #[must_use]
    pub fn database(&self) -> Database {
        Database::at(format!("postgres://postgres@{}/postgres", self.address()))
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Makes a primary of a standby.
    ///
    /// # Panics
    /// If Postgres refuses.
    pub async fn promote(&self) {
        sqlx::query("select pg_promote()")
            .execute(&self.database().pool)
            .await
            .expect("a promotion");
    }

    /// Makes a data directory with `program` and serves it.
    async fn run(program: &str, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let data = directory.path().join("data");
        let data = data.to_str().expect("a path in UTF-8");
        let user = as_postgres(directory.path());
        let made = Command::new("setpriv")
            .args(&user)
            .arg(binary(program))
            .args(["-D", data])
            .args(arguments)
            .output()
            .expect("setpriv");
        assert!(made.status.success(), "{made:?}");
        let port = free_port();
        let (server, listen) = (binary("postgres"), port.to_string());
        let serve = [
            &server,
            "-D",
            data,
            "-p",
            &listen,
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "unix_socket_directories=",
            "-c",
            "fsync=off",
        ];
        let die_with_test = ["--pdeathsig", "KILL"];
        let arguments = [&user[..], &die_with_test, &serve].concat();
        let server = Self {
            port,
            process: Process::spawn("setpriv", &arguments, &[]),
            _data: directory,
        };
        let database = server.database();
        eventually("a server that answers", async || {
            database.pool.acquire().await.ok()
        })
        .await;
        server
    }
}

/// Arguments for `setpriv`: Postgres refuses to run as root, so the directory becomes another's.
fn as_postgres(directory: &Path) -> Vec<&'static str> {
    let owner = fs::metadata(directory).expect("the directory").uid();
    if owner != 0 {
        return Vec::new();
    }
    let given = Command::new("chown")
        .arg("postgres")
        .arg(directory)
        .status();
    assert!(
        given.is_ok_and(|it| it.success()),
        "there is no user postgres"
    );
    vec!["--reuid=postgres", "--regid=postgres", "--init-groups"]
}

/// From `PG_BIN`, else the newest that Debian has.
#[expect(clippy::disallowed_methods, reason = "tests have no command line")]
fn binary(program: &str) -> String {
    let directory = env::var("PG_BIN").unwrap_or_else(|_| {
        let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL, or PG_BIN");
        let newest = versions
            .filter_map(|it| it.ok()?.file_name().to_str()?.parse::<u32>().ok())
            .max();
        let newest = newest.expect("PostgreSQL, or PG_BIN");
        format!("/usr/lib/postgresql/{newest}/bin")
    });
    format!("{directory}/{program}")
}
