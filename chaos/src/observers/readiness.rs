//! What each service says of itself, ten times a second, beside what can be known of the servers it needs.

mod outage;
mod reachability;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use reqwest::Client;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use self::{
    outage::{Probe, ready_though_away},
    reachability::Server,
};
use crate::{endpoints::Endpoints, history::Violation};

const PERIOD: Duration = Duration::from_millis(100);
/// Between looks at a server, each over a connection of its own.
const SERVER_PERIOD: Duration = Duration::from_millis(250);
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

pub(super) struct Observer {
    services: Vec<Service>,
    servers: Vec<Away>,
    /// End with the observer.
    _tasks: JoinSet<()>,
}

type Probes = Arc<Mutex<Vec<Probe>>>;

/// Whether it says that it is ready.
struct Service {
    name: String,
    probes: Probes,
}

/// Whether a server answers, and who is not ready without it.
struct Away {
    name: &'static str,
    /// After so long at the latest.
    bound: Duration,
    needed_by: &'static str,
    probes: Probes,
}

impl Observer {
    pub(super) async fn start(endpoints: &Endpoints) -> anyhow::Result<Self> {
        let mut tasks = JoinSet::new();
        let http = Client::builder().timeout(ANSWER_DEADLINE).build()?;
        let all = [
            ("user service", &endpoints.users_direct),
            ("notification service", &endpoints.notifications_direct),
        ];
        let mut services = Vec::new();
        for (kind, urls) in all {
            for (number, url) in (1..).zip(urls) {
                let probes = Probes::default();
                let probing = probe_service(http.clone(), url.clone(), Arc::clone(&probes));
                tasks.spawn(probing);
                services.push(Service {
                    name: format!("{kind} {number}"),
                    probes,
                });
            }
        }
        let mut servers = Vec::new();
        for (server, bound, needed_by) in Server::all(endpoints).await? {
            let probes = Probes::default();
            servers.push(Away {
                name: server.name(),
                bound,
                needed_by,
                probes: Arc::clone(&probes),
            });
            tasks.spawn(probe_server(server, probes));
        }
        Ok(Self {
            services,
            servers,
            _tasks: tasks,
        })
    }

    /// Forgets what it has compared.
    pub(super) fn take_violations(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        let servers: Vec<_> = self.servers.iter().map(|away| take(&away.probes)).collect();
        for service in &self.services {
            let said = take(&service.probes);
            for (away, probes) in self.servers.iter().zip(&servers) {
                if !service.name.starts_with(away.needed_by) {
                    continue;
                }
                if let Some(after) = ready_though_away(&said, probes, away.bound) {
                    let what = format!(
                        "{} said that it was ready, {after:?} after {} was last there",
                        service.name, away.name
                    );
                    violations.push(Violation::new("readiness is about the work", what));
                }
            }
        }
        violations
    }

    pub(super) fn not_ready(&self) -> Vec<String> {
        let is_ready = |service: &&Service| {
            let probes = service.probes.lock().expect("no observer panics");
            probes.last().is_some_and(|last| last.is_good)
        };
        let others = self.services.iter().filter(|service| !is_ready(service));
        others.map(|service| service.name.clone()).collect()
    }
}

/// Leaves the last one.
fn take(probes: &Probes) -> Vec<Probe> {
    let mut probes = probes.lock().expect("no observer panics");
    let last = probes.last().copied();
    std::mem::replace(&mut probes, last.into_iter().collect())
}

fn add(probes: &Probes, sent: Instant, is_good: bool) {
    let mut probes = probes.lock().expect("no observer panics");
    probes.push(Probe { sent, is_good });
}

async fn probe_service(http: Client, url: String, probes: Probes) {
    let mut clock = interval(PERIOD);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let sent = Instant::now();
        let answer = http.get(format!("{url}/readyz")).send().await;
        add(
            &probes,
            sent,
            answer.is_ok_and(|answer| answer.status() == 200),
        );
    }
}

async fn probe_server(mut server: Server, probes: Probes) {
    let mut clock = interval(SERVER_PERIOD);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let sent = Instant::now();
        let answers = server.answers().await;
        add(&probes, sent, answers);
    }
}
