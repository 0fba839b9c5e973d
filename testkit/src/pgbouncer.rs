//! A `PgBouncer` of a test's own, in transaction mode.

use std::{env, fs};

use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::net::TcpStream;

use crate::{Process, eventually, free_port, postgres::Home};

/// Refuses every start-up parameter that it does not know, and knows no named statements across
/// transactions.
#[derive(Debug)]
pub struct PgBouncer {
    server: PgConnectOptions,
    port: u16,
    home: Home,
    settings: Vec<String>,
    process: Option<Process>,
}

impl PgBouncer {
    /// Before the server that `url` names, with further settings, such as `default_pool_size=2`.
    ///
    /// # Panics
    /// If the URL is not valid, or it does not listen within a minute.
    pub async fn start(url: &str, settings: &[&str]) -> Self {
        let mut pooler = Self {
            server: url.parse().expect("a Postgres URL"),
            port: free_port(),
            home: Home::new(),
            settings: settings.iter().map(ToString::to_string).collect(),
            process: None,
        };
        pooler.restart().await;
        pooler
    }

    /// Of the same database, through the pooler.
    #[must_use]
    pub fn url(&self) -> String {
        let database = self.server.get_database().unwrap_or("postgres");
        let user = self.server.get_username();
        format!("postgres://{user}@127.0.0.1:{}/{database}", self.port)
    }

    /// # Panics
    /// If it is down.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the pooler runs")
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process().kill();
        self.process = None;
    }

    /// Starts it on the same port, after [`PgBouncer::kill`].
    ///
    /// # Panics
    /// If it does not listen within a minute.
    pub async fn restart(&mut self) {
        let path = self.home.path().join("pgbouncer.ini");
        fs::write(&path, self.configuration()).expect("a file");
        let (program, path) = (program(), path.to_str().expect("a path in UTF-8"));
        let die_with_test = ["--pdeathsig", "KILL"];
        let arguments = [&self.home.user[..], &die_with_test, &[&program, path]].concat();
        self.process = Some(Process::spawn("setpriv", &arguments, &[]));
        eventually("a pooler that listens", async || {
            TcpStream::connect(("127.0.0.1", self.port)).await.ok()
        })
        .await;
    }

    /// As another client of the pooler: of the pool of the same database and user.
    ///
    /// # Panics
    /// If it is refused.
    pub async fn connect(&self) -> PgConnection {
        let options: PgConnectOptions = self.url().parse().expect("a Postgres URL");
        // The pooler refuses it.
        let options = options.extra_float_digits(None);
        PgConnection::connect_with(&options)
            .await
            .expect("a connection through the pooler")
    }

    fn configuration(&self) -> String {
        let (host, port) = (self.server.get_host(), self.server.get_port());
        let (user, url) = (self.server.get_username(), self.server.to_url_lossy());
        let password = url.password().map(|it| format!(" password={it}"));
        let password = password.unwrap_or_default();
        let lines = [
            "[databases]".to_owned(),
            format!("* = host={host} port={port} user={user}{password}"),
            "[pgbouncer]".to_owned(),
            "listen_addr = 127.0.0.1".to_owned(),
            format!("listen_port = {}", self.port),
            "unix_socket_dir =".to_owned(),
            "auth_type = any".to_owned(),
            "pool_mode = transaction".to_owned(),
            "server_login_retry = 1".to_owned(),
        ];
        [&lines[..], &self.settings].concat().join("\n")
    }
}

/// From `PGBOUNCER_BIN`, else Debian's.
#[expect(clippy::disallowed_methods, reason = "tests have no command line")]
fn program() -> String {
    env::var("PGBOUNCER_BIN").unwrap_or_else(|_| "/usr/sbin/pgbouncer".to_owned())
}
