//! `alerts.yml`, its tests and its runbooks.

use std::{collections::BTreeSet, fs};

use crate::{promtool, read, report, root};

const RUNBOOKS: &str = "docs/operations.md";

/// A rule of `alerts.yml`.
pub(crate) struct Alert {
    pub(crate) name: String,
    /// Its lines.
    text: String,
}

impl Alert {
    pub(crate) fn all() -> Vec<Self> {
        let rules = read("observability/alerts.yml");
        let alerts = rules.split("- alert: ").skip(1);
        let alerts = alerts.map(|text| Self {
            name: text.lines().next().unwrap_or_default().to_owned(),
            text: text.to_owned(),
        });
        alerts.collect()
    }

    pub(crate) fn expression(&self) -> String {
        let (_, rest) = self.text.split_once("expr: ").expect("an expression");
        let mut lines = rest.lines();
        let first = lines.next().unwrap_or_default();
        if first != "|" {
            return first.to_owned();
        }
        let is_deeper = |line: &&str| line.starts_with("          ");
        lines.take_while(is_deeper).collect::<Vec<_>>().join("\n")
    }

    fn value(&self, key: &str) -> Option<&str> {
        let mut lines = self.text.lines().map(str::trim);
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
    }
}

#[test]
fn prometheus_accepts_its_configuration_and_the_rules() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for name in ["prometheus.yml", "alerts.yml", "targets.yml"] {
        let text = read(&format!("observability/{name}"));
        fs::write(directory.path().join(name), text).expect("a file");
    }
    fs::write(directory.path().join("metrics-token"), "").expect("a file");
    promtool(directory.path(), &["check", "config", "prometheus.yml"]);
}

#[test]
fn each_alert_fires_when_it_should_and_only_then() {
    let directory = root().join("observability");
    promtool(&directory, &["test", "rules", "alerts.test.yml"]);
}

#[test]
fn each_alert_is_tested_to_fire_and_to_be_silent() {
    let tests = read("observability/alerts.test.yml");
    let faults = Alert::all().into_iter().filter_map(|Alert { name, .. }| {
        let uses: Vec<_> = tests
            .split("alertname: ")
            .skip(1)
            .filter(|text| text.lines().next() == Some(name.as_str()))
            .collect();
        let fires = |text: &&&str| {
            text.lines()
                .nth(1)
                .is_some_and(|it| it.contains("exp_alerts"))
        };
        let firing = uses.iter().filter(fires).count();
        (firing == 0 || firing == uses.len()).then(|| {
            format!("alerts.test.yml: {name} needs a case where it fires and one where it does not")
        })
    });
    report(&faults.collect::<Vec<_>>());
}

#[test]
fn each_alert_says_how_urgent_it_is_and_what_it_means() {
    let mut faults = Vec::new();
    for alert in Alert::all() {
        if !matches!(alert.value("severity"), Some("page" | "ticket")) {
            faults.push(format!("{}: severity is page or ticket", alert.name));
        }
        for annotation in ["summary", "description"] {
            if alert.value(annotation).is_none() {
                faults.push(format!("{} has no {annotation}", alert.name));
            }
        }
    }
    report(&faults);
}

#[test]
fn each_alert_has_a_runbook_and_each_runbook_an_alert() {
    let alerts = Alert::all();
    let document = read(RUNBOOKS);
    let (_, runbooks) = document.split_once("\n## Runbooks\n").expect("runbooks");
    let runbooks = runbooks.split("\n## ").next().unwrap_or_default();
    let sections = runbooks
        .lines()
        .filter_map(|line| line.strip_prefix("### "));
    let sections: BTreeSet<_> = sections.collect();
    let mut faults = Vec::new();
    for alert in &alerts {
        let wanted = format!("{RUNBOOKS}#{}", alert.name.to_lowercase());
        if alert.value("runbook") != Some(&wanted) {
            faults.push(format!("{}: its runbook has to be {wanted}", alert.name));
        }
        if !sections.contains(alert.name.as_str()) {
            faults.push(format!("{RUNBOOKS}: no section ### {}", alert.name));
        }
    }
    let names: BTreeSet<_> = alerts.iter().map(|alert| alert.name.as_str()).collect();
    let left_over = sections.difference(&names);
    faults.extend(left_over.map(|it| format!("{RUNBOOKS}: there is no alert {it}")));
    report(&faults);
}
