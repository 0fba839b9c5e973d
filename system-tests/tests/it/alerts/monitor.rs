//! Prometheus with the configuration of `observability/`, in a hurry.

use std::{collections::BTreeSet, fmt::Write, fs, path::Path};

use reqwest::Client;
use serde_json::Value;
use testkit::{Prometheus, eventually};

use crate::support::Api;

pub(super) struct Monitor {
    prometheus: Prometheus,
    client: Client,
}

impl Monitor {
    /// Of both services, once nothing is wrong with them.
    pub(super) async fn of(users: &Api, notifications: &Api) -> Self {
        let monitor = Self::start(&[
            ("user-service", &users.url),
            ("notification-service", &notifications.url),
        ])
        .await;
        monitor.all_is_well().await;
        monitor
    }

    pub(super) async fn start(targets: &[(&str, &str)]) -> Self {
        let prometheus = Prometheus::start(&[
            (
                "prometheus.yml",
                &with_short_intervals(&read("prometheus.yml")),
            ),
            ("alerts.yml", &in_a_hurry(&read("alerts.yml"))),
            ("targets.yml", &as_file(targets)),
            ("metrics-token", ""),
        ])
        .await;
        Self {
            prometheus,
            client: Client::new(),
        }
    }

    /// The targets from now on.
    pub(super) fn watch(&self, targets: &[(&str, &str)]) {
        self.prometheus.write("targets.yml", &as_file(targets));
    }

    pub(super) fn use_token(&self, token: &str) {
        self.prometheus.write("metrics-token", token);
    }

    /// Waits until all these fire at once.
    pub(super) async fn fire(&self, alerts: &[&str]) {
        eventually(&format!("the alerts {alerts:?}"), async || {
            let active = self.active("firing").await?;
            alerts.iter().all(|it| active.contains(*it)).then_some(())
        })
        .await;
    }

    /// Waits until all targets answer, all rules can be evaluated, and no alert is active.
    pub(super) async fn all_is_well(&self) {
        eventually("an end of the alerts", async || {
            let down = self.ask("query?query=up==0").await?;
            let rules = self.ask("rules").await?;
            let groups = rules["groups"].as_array()?.iter();
            let mut rules =
                groups.flat_map(|group| group["rules"].as_array().into_iter().flatten());
            let is_well = down["result"].as_array()?.is_empty()
                && rules.all(|rule| rule["health"] == "ok" && rule["state"] == "inactive");
            is_well.then_some(())
        })
        .await;
    }

    async fn active(&self, state: &str) -> Option<BTreeSet<String>> {
        let answer = self.ask("alerts").await?;
        let alerts = answer["alerts"].as_array()?.iter();
        let names = alerts
            .filter(|alert| alert["state"] == state)
            .filter_map(|alert| alert["labels"]["alertname"].as_str());
        Some(names.map(ToOwned::to_owned).collect())
    }

    async fn ask(&self, what: &str) -> Option<Value> {
        let url = format!("{}/api/v1/{what}", self.prometheus.url());
        let answer = self.client.get(url).send().await.ok()?;
        let mut answer: Value = answer.json().await.ok()?;
        Some(answer["data"].take())
    }
}

fn read(name: &str) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../observability");
    fs::read_to_string(directory.join(name)).expect("a file of observability/")
}

fn as_file(targets: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (job, url) in targets {
        let address = url.strip_prefix("http://").expect("an HTTP URL");
        writeln!(
            text,
            "- {{labels: {{job: {job}}}, targets: [\"{address}\"]}}"
        )
        .expect("a string");
    }
    text
}

/// A scrape takes as long as the slowest check of readiness, up to 800 ms.
fn with_short_intervals(configuration: &str) -> String {
    let configuration = replaced(configuration, "scrape_interval: 15s", "scrape_interval: 2s");
    let configuration = replaced(&configuration, "scrape_timeout: 5s", "scrape_timeout: 2s");
    replaced(
        &configuration,
        "evaluation_interval: 15s",
        "evaluation_interval: 500ms",
    )
}

/// The rules as they are, but for their times: what lasts minutes lasts a second, and what is looked back
/// on is seconds old.
fn in_a_hurry(rules: &str) -> String {
    let mut rules = replaced(rules, "_seconds) > 60\n", "_seconds) > 1\n");
    for minutes in ["2m", "5m", "10m", "15m"] {
        rules = replaced(&rules, &format!("for: {minutes}\n"), "for: 1s\n");
    }
    for window in ["5m", "10m", "15m", "30m", "6h"] {
        rules = replaced(&rules, &format!("[{window}]"), "[15s]");
    }
    for offset in ["30m", "6h"] {
        rules = replaced(&rules, &format!("offset {offset}"), "offset 15s");
    }
    rules
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(
        text.contains(from),
        "{from} is not in observability/ any more"
    );
    text.replace(from, to)
}
