//! Both services on a stack of their own, and whether they go on as before.

use std::fs;

use serde_json::json;
use testkit::{eventually, unique};

use super::text::Values;
use crate::support::{Api, Stack, User};

/// By how much the memory of a service may grow, in KiB: far above what its limits add up to here, far
/// below what the requests would add up to without them.
const MAX_GROWTH_KIB: u64 = 256 * 1024;

pub(super) struct Serving {
    pub(super) stack: Stack,
    pub(super) notifications: Api,
    users: Api,
    token: Option<String>,
    /// Who is there, and changes only if a request says so.
    user: User,
    memory: [u64; 2],
}

impl Serving {
    pub(super) async fn start(arguments: &[String], token: Option<&str>) -> Self {
        let stack = Stack::new().await;
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let users = stack.users(&arguments).await;
        let serve = [&["serve"], &arguments[..]].concat();
        let notifications = Api::ready(stack.start("notification-service", &serve)).await;
        let token = token.map(str::to_owned);
        let user = create(&users, token.as_deref()).await;
        stack.converged().await;
        let memory = [&users, &notifications].map(memory);
        Self {
            stack,
            notifications,
            users,
            token,
            user,
            memory,
        }
    }

    /// The address of a service, and what names stand for in requests to it.
    pub(super) fn target(&self, service: &str) -> (String, Values) {
        let id = self.user.id;
        let (api, list, users) = match service {
            "users" => (&self.users, "/users", "/users/"),
            "notifications" => (
                &self.notifications,
                "/notifications",
                "/notifications/user/",
            ),
            other => panic!("there is no service {other}"),
        };
        let address = api.url.trim_start_matches("http://").to_owned();
        let values = Values::new(vec![
            ("host", address.clone()),
            ("id", id.to_string()),
            ("email", self.user.email.clone()),
            ("list", list.to_owned()),
            ("users", users.to_owned()),
            ("one", format!("{users}{id}")),
            ("new", unique("new")),
        ]);
        (address, values)
    }

    pub(super) async fn create(&self) -> User {
        create(&self.users, self.token.as_deref()).await
    }

    /// What has changed for the worse. Requests have not made a service log an error either.
    pub(super) async fn faults_after_requests(&self) -> Vec<String> {
        self.create().await;
        self.stack.converged().await;
        let mut faults = self.faults().await;
        for (name, api) in self.services() {
            let output = api.service.process.output();
            // It is waited for no longer than a second, and asked for again.
            let is_slow = |it: &&String| it.contains("the dead-letter stream is not ready");
            let is_error = |it: &&String| it.contains("\"level\":\"ERROR\"") && !is_slow(it);
            let errors = output.iter().filter(is_error);
            faults.extend(errors.map(|line| format!("{name} logged an error: {line}")));
        }
        faults
    }

    /// What has changed for the worse.
    pub(super) async fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for ((name, api), before) in self.services().into_iter().zip(self.memory) {
            eventually("a service that is ready", async || {
                let answer = api.client.get(format!("{}/readyz", api.url)).send().await;
                answer.ok()?.status().is_success().then_some(())
            })
            .await;
            let grown = memory(api).saturating_sub(before);
            if grown > MAX_GROWTH_KIB {
                faults.push(format!("{name} has grown by {grown} KiB"));
            }
            let output = api.service.process.output();
            // The client gives up itself on headers with a line break: the service survives it.
            let is_own = |it: &&String| it.contains("panicked") && !it.contains("/async-nats-");
            let panics = output.iter().filter(is_own);
            faults.extend(panics.map(|line| format!("{name}: {line}")));
        }
        faults
    }

    fn services(&self) -> [(&str, &Api); 2] {
        [
            ("user-service", &self.users),
            ("notification-service", &self.notifications),
        ]
    }
}

async fn create(users: &Api, token: Option<&str>) -> User {
    let body = json!({ "name": "Ada", "email": format!("{}@example.com", unique("ada")) });
    let request = users
        .client
        .post(format!("{}/users", users.url))
        .json(&body);
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 201, "a normal user is created");
    answer.json().await.expect("a user")
}

/// Resident, in KiB.
fn memory(api: &Api) -> u64 {
    let status = format!("/proc/{}/status", api.service.process.id());
    let status = fs::read_to_string(status).expect("the process is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse().ok());
    kib.expect("a number of KiB")
}
