//! NATS with `JetStream`.

use std::{env, path::Path};

use async_nats::Client;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::{Process, eventually, free_port, required};

/// The shared server's URL.
#[must_use]
pub fn shared_url() -> String {
    required("TEST_NATS_URL")
}

/// Publishes a message whose headers are any bytes, such as no client would send.
///
/// # Panics
/// If the server does not take it.
pub async fn publish_bytes(url: &str, subject: &str, headers: &[u8], payload: &[u8]) {
    let (_, address) = url.split_once("//").expect("a URL");
    let stream = TcpStream::connect(address).await.expect("NATS");
    let mut connection = BufReader::new(stream);
    let connect = "CONNECT {\"verbose\":false,\"headers\":true}";
    let (header_bytes, bytes) = (headers.len(), headers.len() + payload.len());
    let publish = format!("{connect}\r\nHPUB {subject} {header_bytes} {bytes}\r\n");
    let message = [publish.as_bytes(), headers, payload, b"\r\nPING\r\n"].concat();
    connection.write_all(&message).await.expect("sent");
    let mut lines = connection.lines();
    loop {
        let line = lines.next_line().await.expect("an answer");
        if line.expect("an answer") == "PONG" {
            return;
        }
    }
}

/// Three servers that hold each stream together, to lose one of them.
#[derive(Debug)]
pub struct Cluster {
    pub servers: Vec<Server>,
}

impl Cluster {
    /// # Panics
    /// If it has no leader within a minute.
    pub async fn start() -> Self {
        let routes: Vec<_> = (0..3)
            .map(|_| format!("nats://127.0.0.1:{}", free_port()))
            .collect();
        let all_routes = routes.join(",");
        let starting = (routes.iter().enumerate()).map(|(index, route)| {
            let name = Self::name(index);
            let all_routes = &all_routes;
            async move {
                let cluster = ["--cluster_name", "test", "--cluster", route];
                let member = ["--routes", all_routes.as_str(), "-n", &name];
                Server::start_with(&[cluster, member].concat()).await
            }
        });
        let servers = futures::future::join_all(starting).await;
        let jetstream = async_nats::jetstream::new(servers[0].client().await);
        eventually("a cluster with a leader", async || {
            jetstream.query_account().await.ok()
        })
        .await;
        Self { servers }
    }

    /// For a client that is to find another server when it loses its own.
    #[must_use]
    pub fn url(&self) -> String {
        let urls: Vec<_> = self.servers.iter().map(Server::url).collect();
        urls.join(",")
    }

    /// What the server calls itself, as a stream names its leader.
    #[must_use]
    pub fn name(index: usize) -> String {
        format!("server-{index}")
    }
}

/// A server of the test's own, to be stopped, killed, frozen and started again with what it has.
#[derive(Debug)]
pub struct Server {
    port: u16,
    store: TempDir,
    arguments: Vec<String>,
    process: Option<Process>,
}

impl Server {
    /// # Panics
    /// If it does not answer within a minute.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With further arguments, such as the path of a configuration file.
    ///
    /// # Panics
    /// If it does not answer within a minute.
    pub async fn start_with(arguments: &[&str]) -> Self {
        Self::start_within(&env::temp_dir(), arguments).await
    }

    /// With what it stores in this directory.
    ///
    /// # Panics
    /// If it does not answer within a minute.
    pub async fn start_within(directory: &Path, arguments: &[&str]) -> Self {
        let mut server = Self {
            port: free_port(),
            store: tempfile::tempdir_in(directory).expect("a temporary directory"),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            process: None,
        };
        server.restart().await;
        server
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it keeps its streams.
    #[must_use]
    pub fn store(&self) -> &Path {
        self.store.path()
    }

    /// # Panics
    /// If it is down.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the server runs")
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process().kill();
        self.process = None;
    }

    /// In good order: all is on disk afterwards.
    ///
    /// # Panics
    /// If it does not end within a minute.
    pub async fn stop(&mut self) {
        self.process().stop().await;
        self.process = None;
    }

    /// Starts it on the same port with the same store, after [`Server::stop`] or [`Server::kill`].
    ///
    /// # Panics
    /// If it does not answer within a minute.
    pub async fn restart(&mut self) {
        let port = self.port.to_string();
        let store = self.store.path().to_str().expect("a path in UTF-8");
        let mut arguments = vec!["-js", "-sd", store, "-a", "127.0.0.1", "-p", &port];
        arguments.extend(self.arguments.iter().map(String::as_str));
        let program = required("NATS_SERVER_BIN");
        self.process = Some(Process::spawn(&program, &arguments, &[]));
        // Not by a client: it may not be let in.
        eventually("NATS to listen", async || {
            TcpStream::connect(("127.0.0.1", self.port)).await.ok()
        })
        .await;
    }

    /// Connects, waiting for the server.
    ///
    /// # Panics
    /// If it does not answer within a minute.
    pub async fn client(&self) -> Client {
        eventually("an answer from NATS", async || {
            async_nats::connect(self.url()).await.ok()
        })
        .await
    }
}
