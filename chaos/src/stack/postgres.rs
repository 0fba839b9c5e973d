//! The primary, and how others take its place.

use std::{net::SocketAddr, path::Path};

use cluster_tests::processes;
use nix::{sys::signal::Signal, unistd::Pid};
use testkit::{Proxy, postgres::Server};

use crate::stack::Stack;

/// One address leads to whatever server is the primary, for those who only look.
pub(crate) struct Postgres {
    pub(crate) server: Server,
    front: Proxy,
}

const DATABASE: &str = "users_db";
/// Little of the write-ahead log is kept, so that a small disk has room for it.
const SETTINGS: [&str; 2] = ["max_connections=300", "max_wal_size=256MB"];

impl Postgres {
    pub(super) async fn start(directory: &Path) -> Self {
        let server = Server::start_within(directory, &SETTINGS).await;
        server.execute(&["create database users_db"]).await;
        let front = Proxy::start(server.address()).await;
        Self { server, front }
    }

    pub(super) fn url(&self) -> String {
        url(self.front.address())
    }

    pub(super) fn address(&self) -> String {
        self.server.address()
    }

    /// SIGKILL, of all its processes.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        let postmaster = self.pid()?;
        let backends = processes::children(postmaster)?;
        self.server.kill();
        for backend in backends {
            processes::signal(backend, Signal::SIGKILL)?;
        }
        Ok(())
    }

    pub(crate) fn pid(&self) -> anyhow::Result<Pid> {
        Ok(Pid::from_raw(self.server.process().id().try_into()?))
    }
}

impl Stack {
    /// From now on `successor` is the primary.
    pub(crate) fn lead_to(&self, postgres: &mut Postgres, successor: Server) {
        let address = successor.address();
        for wire in ["users-1>postgres", "users-2>postgres"] {
            if let Some(proxy) = self.wires.proxy(wire) {
                proxy.redirect(address.clone());
            }
        }
        postgres.front.redirect(address);
        postgres.server = successor;
    }
}

pub(super) fn url(address: SocketAddr) -> String {
    format!("postgres://postgres@{address}/{DATABASE}")
}
