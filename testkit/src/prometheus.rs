//! Prometheus with a configuration of a test's own.

use std::{env, fs};

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::{Process, eventually, free_port};

/// Scrapes its targets and evaluates its rules.
#[derive(Debug)]
pub struct Prometheus {
    port: u16,
    home: TempDir,
    _process: Process,
}

impl Prometheus {
    /// With files by their names; `prometheus.yml` is the configuration, and names the others.
    ///
    /// # Panics
    /// If it does not listen within a minute.
    pub async fn start(files: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        for (name, text) in files {
            fs::write(home.path().join(name), text).expect("a file");
        }
        let port = free_port();
        let path = |name| home.path().join(name).display().to_string();
        let arguments = [
            format!("--config.file={}", path("prometheus.yml")),
            format!("--storage.tsdb.path={}", path("data")),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let process = Process::spawn(&program(), &arguments, &[]);
        eventually("Prometheus to listen", async || {
            TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        Self {
            port,
            home,
            _process: process,
        }
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Replaces a file as a whole. Targets and tokens are read again by themselves.
    ///
    /// # Panics
    /// If it can't be written.
    pub fn write(&self, name: &str, text: &str) {
        let new = self.home.path().join(format!("{name}.new"));
        fs::write(&new, text).expect("a file");
        fs::rename(new, self.home.path().join(name)).expect("a file");
    }
}

/// From `PROMETHEUS_BIN`, else the one that is installed.
#[expect(clippy::disallowed_methods, reason = "tests have no command line")]
fn program() -> String {
    env::var("PROMETHEUS_BIN").unwrap_or_else(|_| "prometheus".to_owned())
}
