//! A server of the test's own.

use std::{env, path::Path};

use sqlx::AssertSqlSafe;

use super::{
    Database,
    home::{Home, binary},
};
use crate::{Process, eventually, free_port};

/// A primary or a standby.
#[derive(Debug)]
pub struct Server {
    port: u16,
    settings: Vec<String>,
    process: Process,
    home: Home,
}

impl Server {
    /// A primary.
    ///
    /// # Panics
    /// If it can't be reached within a minute.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A primary with these settings, each as `name=value`.
    ///
    /// # Panics
    /// If it can't be reached within a minute.
    pub async fn start_with(settings: &[&str]) -> Self {
        Self::start_within(&env::temp_dir(), settings).await
    }

    /// With all that it writes in this directory; copies of it as well.
    ///
    /// # Panics
    /// If it can't be reached within a minute.
    pub async fn start_within(directory: &Path, settings: &[&str]) -> Self {
        let home = Home::within(directory);
        home.make_data(
            "initdb",
            &["--username=postgres", "--auth=trust", "--no-sync"],
        );
        Self::serve(home, settings).await
    }

    /// Follows this primary, asynchronously.
    ///
    /// # Panics
    /// If it can't be reached within a minute.
    pub async fn standby(&self) -> Self {
        let settings: Vec<_> = self.settings.iter().map(String::as_str).collect();
        Self::serve(self.copy(&["--write-recovery-conf"]), &settings).await
    }

    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    pub(super) fn settings(&self) -> &[String] {
        &self.settings
    }

    /// A copy of the data directory.
    pub(super) fn copy(&self, how: &[&str]) -> Home {
        let home = self.home.beside();
        let port = format!("--port={}", self.port);
        let from = ["--host=127.0.0.1", &port, "--username=postgres"];
        let quickly = ["--checkpoint=fast", "--no-sync"];
        home.make_data("pg_basebackup", &[&from, how, &quickly].concat());
        home
    }

    /// `host:port`
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Of the database that each server has.
    #[must_use]
    pub fn database(&self) -> Database {
        self.database_named("postgres")
    }

    #[must_use]
    pub fn database_named(&self, name: &str) -> Database {
        Database::at(format!("postgres://postgres@{}/{name}", self.address()))
    }

    /// Runs statements in the database that each server has, as an operator would, each in a
    /// transaction of its own.
    ///
    /// # Panics
    /// If one fails.
    pub async fn execute(&self, statements: &[&str]) {
        for statement in statements {
            self.execute_in("postgres", statement).await;
        }
    }

    /// Runs statements in this database, in one transaction.
    ///
    /// # Panics
    /// If one fails.
    pub async fn execute_in(&self, database: &str, statements: &str) {
        sqlx::raw_sql(AssertSqlSafe(statements))
            .execute(&self.database_named(database).pool)
            .await
            .unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Shuts down in good order, without waiting for clients to leave.
    pub async fn stop(&mut self) {
        self.process.interrupt();
        self.process.ended().await;
    }

    /// From now on this standby receives nothing more: what the primary writes is lost to it.
    ///
    /// # Panics
    /// If Postgres refuses.
    pub async fn cut_off(&self) {
        self.execute(&[
            "alter system set primary_conninfo = ''",
            "select pg_reload_conf()",
        ])
        .await;
        let database = self.database();
        eventually("the end of the replication", async || {
            let receivers: i64 = sqlx::query_scalar("select count(*) from pg_stat_wal_receiver")
                .fetch_one(&database.pool)
                .await
                .ok()?;
            (receivers == 0).then_some(())
        })
        .await;
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

    /// Starts it on the same port with the same data, after [`Server::kill`] or [`Server::stop`].
    ///
    /// # Panics
    /// If it can't be reached within a minute.
    pub async fn restart(&mut self) {
        let database = self.database();
        self.process = spawn(self.port, &self.home, &self.settings);
        eventually("a server that answers", async || {
            // It refuses as long as a process of the former one is there.
            if !self.process.is_running() {
                self.process = spawn(self.port, &self.home, &self.settings);
            }
            database.pool.acquire().await.ok()
        })
        .await;
    }

    /// Serves a data directory.
    pub(super) async fn serve(home: Home, settings: &[&str]) -> Self {
        let settings = settings.iter().map(ToString::to_string).collect();
        Self::recover(home, settings, &[]).await
    }

    /// Serves a data directory after a recovery, for which alone there are further settings.
    pub(super) async fn recover(home: Home, settings: Vec<String>, recovery: &[&str]) -> Self {
        let port = free_port();
        let further: Vec<_> = recovery.iter().map(ToString::to_string).collect();
        let server = Self {
            port,
            process: spawn(port, &home, &[&settings[..], &further].concat()),
            settings,
            home,
        };
        let database = server.database();
        eventually("a server that answers", async || {
            database.pool.acquire().await.ok()
        })
        .await;
        server
    }
}

fn spawn(port: u16, home: &Home, settings: &[String]) -> Process {
    let (server, listen) = (binary("postgres"), port.to_string());
    let data = home.data();
    let data = data.to_str().expect("a path in UTF-8");
    let fixed = [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "fsync=off",
    ];
    let settings = fixed.into_iter().chain(settings.iter().map(String::as_str));
    let settings: Vec<_> = settings.flat_map(|it| ["-c", it]).collect();
    let serve = [&server, "-D", data, "-p", &listen];
    let die_with_test = ["--pdeathsig", "KILL"];
    let arguments = [&home.user[..], &die_with_test, &serve, &settings].concat();
    Process::spawn_as("postgres", "setpriv", &arguments, &[])
}
