//! The connections between the parts, each through a proxy of its own.

use std::net::SocketAddr;

use testkit::{Proxy, mongodb, nats};

use super::{COPY_DATABASE, Postgres, SERVICES};

/// As `FROM>TO`.
pub(crate) const WIRES: [&str; 14] = [
    "users-1>postgres",
    "users-2>postgres",
    "users-1>nats",
    "users-2>nats",
    "notifications-1>nats",
    "notifications-2>nats",
    "notifications-1>mongodb",
    "notifications-2>mongodb",
    "notifications-1>users-1",
    "notifications-2>users-2",
    "clients>users-1",
    "clients>users-2",
    "clients>notifications-1",
    "clients>notifications-2",
];
pub(crate) const CLIENT_WIRES: [&str; 4] = [
    "clients>users-1",
    "clients>users-2",
    "clients>notifications-1",
    "clients>notifications-2",
];

pub(crate) struct Wires {
    /// In the order of [`WIRES`].
    proxies: Vec<Proxy>,
}

impl Wires {
    pub(super) async fn start(
        postgres: &Postgres,
        nats: &nats::Server,
        mongodb: &mongodb::Server,
        ports: &[u16],
    ) -> Self {
        let mut proxies = Vec::new();
        for wire in WIRES {
            let server = match wire.split_once('>') {
                Some((_, "postgres")) => postgres.address(),
                Some((_, "nats")) => format!("127.0.0.1:{}", nats.port()),
                Some((_, "mongodb")) => format!("127.0.0.1:{}", mongodb.port()),
                Some((_, service)) => {
                    let mut services = SERVICES.iter().zip(ports);
                    let port = services.find(|(name, _)| **name == service);
                    format!("127.0.0.1:{}", port.expect("a service").1)
                }
                None => unreachable!("a wire has two ends"),
            };
            proxies.push(Proxy::start(server).await);
        }
        Self { proxies }
    }

    pub(crate) fn proxy(&self, wire: &str) -> Option<&Proxy> {
        let index = WIRES.iter().position(|it| *it == wire)?;
        self.proxies.get(index)
    }

    pub(super) fn address(&self, from: &str, to: &str) -> SocketAddr {
        let proxy = self.proxy(&format!("{from}>{to}"));
        proxy.expect("they talk to each other").address()
    }

    pub(super) fn pass(&self) {
        self.proxies.iter().for_each(Proxy::pass);
    }

    /// What a service has to know. Leases and deadlines are short, so that it recovers soon.
    pub(super) fn environment(&self, service: &str) -> Vec<(&'static str, String)> {
        let (kind, number) = service.rsplit_once('-').expect("a number");
        let mut environment = vec![
            ("RUST_LOG", "info,async_nats=warn".to_owned()),
            (
                "NATS_URL",
                format!("nats://{}", self.address(service, "nats")),
            ),
            ("DRAIN_TIMEOUT", "2s".to_owned()),
            ("HEADER_TIMEOUT", "3s".to_owned()),
            ("WRITE_TIMEOUT", "3s".to_owned()),
        ];
        if kind == "users" {
            let postgres = self.address(service, "postgres");
            environment.extend([
                ("DATABASE_URL", super::postgres::url(postgres)),
                ("DATABASE_CONNECTIONS", "10".to_owned()),
                ("LIVE_COPY_URL", "none".to_owned()),
                ("IMPORT_CHUNK_TIMEOUT", "3s".to_owned()),
            ]);
        } else {
            let mongodb = self.address(service, "mongodb");
            let users = self.address(service, &format!("users-{number}"));
            environment.extend([
                (
                    "MONGODB_URI",
                    format!("mongodb://{mongodb}/?directConnection=true"),
                ),
                ("MONGODB_DATABASE", COPY_DATABASE.to_owned()),
                ("ACK_WAIT", "2s".to_owned()),
                ("VERIFY_USERS", format!("http://{users}")),
                ("VERIFY_EVERY", "10s".to_owned()),
                ("VERIFY_SETTLE", "5s".to_owned()),
            ]);
        }
        environment
    }
}
