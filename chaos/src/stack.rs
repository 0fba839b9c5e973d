//! A small stack: one server of each kind, two services of each kind, and a proxy between every two that
//! talk to each other.

mod disks;
mod logs;
mod machine;
mod postgres;
mod reconciliation;
mod services;
mod wires;

use std::{
    env::temp_dir,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use testkit::{mongodb, nats};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

pub(crate) use self::{
    disks::Disks,
    logs::{Logs, RECORDING},
    machine::Machine,
    postgres::Postgres,
    wires::{CLIENT_WIRES, WIRES},
};
use self::{services::Service, wires::Wires};
use crate::endpoints::Endpoints;

pub(crate) const PROCESSES: [&str; 7] = [
    "users-1",
    "users-2",
    "notifications-1",
    "notifications-2",
    "postgres",
    "nats",
    "mongodb",
];
pub(crate) const SERVERS: [&str; 3] = ["postgres", "nats", "mongodb"];
pub(crate) const SERVICES: [&str; 4] = ["users-1", "users-2", "notifications-1", "notifications-2"];

const STREAM: &str = "USER_EVENTS";
const CONSUMER: &str = "notification-service";
const COPY_DATABASE: &str = "notifications_db";

pub(crate) struct Stack {
    pub(crate) endpoints: Endpoints,
    pub(crate) wires: Wires,
    pub(crate) postgres: Mutex<Postgres>,
    pub(crate) nats: Mutex<nats::Server>,
    pub(crate) mongodb: Mutex<mongodb::Server>,
    /// In the order of [`SERVICES`].
    services: Vec<Mutex<Service>>,
    pub(crate) disks: Option<Disks>,
    pub(crate) logs: Logs,
    pub(crate) binaries: PathBuf,
    http: reqwest::Client,
}

impl Stack {
    /// Starts everything, the services with `settings` beside others, and waits until it is ready.
    pub(crate) async fn start(
        machine: &Machine,
        logs: &Path,
        settings: &[(&'static str, &str)],
    ) -> anyhow::Result<Self> {
        let binaries = machine.binaries()?;
        let disks = machine.disks.as_deref().map(Disks::at).transpose()?;
        let [at_postgres, at_nats, at_mongodb] =
            SERVERS.map(|server| disks.as_ref().map_or_else(temp_dir, |it| it.of(server)));
        let (postgres, nats, mongodb) = tokio::join!(
            Postgres::start(&at_postgres),
            nats::Server::start_within(&at_nats, &[]),
            mongodb::Server::start_within(&at_mongodb, &[]),
        );
        let ports: Vec<_> = SERVICES.iter().map(|_| testkit::free_port()).collect();
        let wires = Wires::start(&postgres, &nats, &mongodb, &ports).await;
        let service = |(name, port): (&&'static str, &u16)| {
            let mut environment = wires.environment(name);
            environment.extend(
                settings
                    .iter()
                    .map(|(name, value)| (*name, value.to_string())),
            );
            Service::new(name, *port, &binaries, environment)
        };
        let services = SERVICES.iter().zip(&ports).map(service);
        let stack = Self {
            endpoints: endpoints(&wires, &postgres, &nats, &mongodb, &ports),
            services: services
                .map(|it| it.map(Mutex::new))
                .collect::<Result<_, _>>()?,
            wires,
            postgres: Mutex::new(postgres),
            nats: Mutex::new(nats),
            mongodb: Mutex::new(mongodb),
            disks,
            logs: Logs::at(logs),
            binaries,
            http: reqwest::Client::builder().timeout(PROBE_DEADLINE).build()?,
        };
        stack.ready(START_DEADLINE).await?;
        Ok(stack)
    }

    pub(crate) fn service(&self, name: &str) -> Option<&Mutex<Service>> {
        let index = SERVICES.iter().position(|it| *it == name)?;
        self.services.get(index)
    }

    /// Of a service, past its proxy.
    pub(crate) fn url(&self, name: &str) -> Option<&str> {
        let Endpoints {
            users_direct: users,
            notifications_direct: notifications,
            ..
        } = &self.endpoints;
        let mut urls = SERVICES.iter().zip(users.iter().chain(notifications));
        urls.find(|(service, _)| **service == name)
            .map(|(_, url)| url.as_str())
    }

    /// Waits until every service says that it is ready.
    pub(crate) async fn ready(&self, deadline: Duration) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let Err(what) = self.is_ready().await else {
                return Ok(());
            };
            ensure!(started.elapsed() < deadline, "after {deadline:?}: {what:#}");
            sleep(POLL_INTERVAL).await;
        }
    }

    async fn is_ready(&self) -> anyhow::Result<()> {
        for name in SERVICES {
            let url = self.url(name).context(name)?;
            let answer = self.http.get(format!("{url}/readyz")).send().await;
            let answer = answer.with_context(|| format!("{name} does not answer"))?;
            let status = answer.status();
            let text = answer.text().await.unwrap_or_default();
            ensure!(status == 200, "{name} is not ready: {text}");
        }
        Ok(())
    }

    /// Replaces one service by that of the release with these programs.
    pub(crate) async fn update(&self, name: &str, programs: &Path) -> anyhow::Result<()> {
        let service = self.service(name).context("a service")?;
        service.lock().await.update(programs, &self.logs).await
    }

    /// Ends whatever is still wrong, and names the services that have ended by themselves.
    pub(crate) async fn heal(&self) -> anyhow::Result<Vec<&'static str>> {
        self.wires.pass();
        let mut ended = Vec::new();
        for (name, service) in SERVICES.iter().zip(&self.services) {
            if service.lock().await.revive(&self.logs)? {
                ended.push(*name);
            }
        }
        Ok(ended)
    }
}

const START_DEADLINE: Duration = Duration::from_secs(60);
const PROBE_DEADLINE: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

fn endpoints(
    wires: &Wires,
    postgres: &Postgres,
    nats: &nats::Server,
    mongodb: &mongodb::Server,
    ports: &[u16],
) -> Endpoints {
    let through = |names: &[&str]| -> Vec<_> {
        let url = |name: &&str| format!("http://{}", wires.address("clients", name));
        names.iter().map(url).collect()
    };
    let direct = |ports: &[u16]| -> Vec<_> {
        let url = |port: &u16| format!("http://127.0.0.1:{port}");
        ports.iter().map(url).collect()
    };
    Endpoints {
        users: through(&SERVICES[..2]),
        notifications: through(&SERVICES[2..]),
        users_direct: direct(&ports[..2]),
        notifications_direct: direct(&ports[2..]),
        postgres: postgres.url(),
        nats: nats.url(),
        mongodb: format!(
            "mongodb://127.0.0.1:{}/?directConnection=true",
            mongodb.port()
        ),
        mongodb_database: COPY_DATABASE.to_owned(),
        stream: STREAM.to_owned(),
        consumer: CONSUMER.to_owned(),
    }
}
