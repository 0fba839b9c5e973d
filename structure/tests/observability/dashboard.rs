//! `dashboard.json`, as Grafana reads it.

use std::{collections::BTreeSet, fmt::Write, fs, process::Command};

use serde_json::Value;

use crate::{promtool, read, report, root, run};

pub(crate) struct Dashboard(Value);

impl Dashboard {
    pub(crate) fn read() -> Self {
        let text = read("observability/dashboard.json");
        Self(serde_json::from_str(&text).expect("JSON"))
    }

    fn panels(&self) -> &[Value] {
        self.0["panels"].as_array().expect("panels")
    }

    /// The title of a panel, or the name of a variable, and what it asks Prometheus.
    pub(crate) fn queries(&self) -> Vec<(String, String)> {
        let mut queries = Vec::new();
        for panel in self.panels() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                queries.push((text(&panel["title"]), text(&target["expr"])));
            }
        }
        let variables = self.0["templating"]["list"].as_array();
        for variable in variables.into_iter().flatten() {
            let query = text(&variable["query"]["query"]);
            let inner = query.strip_prefix("label_values(").expect("label_values");
            let (metric, label) = inner.rsplit_once(", ").expect("two arguments");
            let label = label.strip_suffix(')').expect("a bracket");
            queries.push((
                text(&variable["name"]),
                format!("sum by ({label}) ({metric})"),
            ));
        }
        queries
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[test]
fn the_dashboard_is_what_its_script_writes() {
    let written = run(Command::new("python3").arg(root().join("observability/dashboard.py")));
    let is_current = written == read("observability/dashboard.json");
    assert!(
        is_current,
        "run: observability/dashboard.py > observability/dashboard.json"
    );
}

#[test]
fn grafana_finds_what_it_needs() {
    let dashboard = Dashboard::read();
    let sources = read("observability/grafana/datasources.yml");
    let mut faults = Vec::new();
    let mut ids = BTreeSet::new();
    for key in ["uid", "title"] {
        if text(&dashboard.0[key]).is_empty() {
            faults.push(format!("the dashboard has no {key}"));
        }
    }
    if dashboard.0["schemaVersion"]
        .as_u64()
        .is_none_or(|it| it < 36)
    {
        faults.push("schemaVersion: data sources are objects from 36 on".to_owned());
    }
    for panel in dashboard.panels() {
        let title = text(&panel["title"]);
        let place = &panel["gridPos"];
        let number = |key: &str| place[key].as_u64().unwrap_or(u64::MAX);
        if number("x").saturating_add(number("w")) > 24 || number("y") == u64::MAX {
            faults.push(format!("{title}: it does not fit into 24 columns"));
        }
        if !ids.insert(panel["id"].as_u64()) {
            faults.push(format!("{title}: another panel has its id"));
        }
        let targets = panel["targets"].as_array().map_or(0, Vec::len);
        if (panel["type"] == "row") != (targets == 0) {
            faults.push(format!(
                "{title}: a row has no targets, another panel has some"
            ));
        }
        let uid = text(&panel["datasource"]["uid"]);
        if panel["type"] != "row" && !sources.contains(&format!("    uid: {uid}\n")) {
            faults.push(format!("{title}: the data source {uid} is not provisioned"));
        }
    }
    report(&faults);
}

#[test]
fn each_query_uses_variables_that_the_dashboard_has() {
    let dashboard = Dashboard::read();
    let variables = dashboard.0["templating"]["list"].as_array();
    let mut known: BTreeSet<_> = variables
        .into_iter()
        .flatten()
        .map(|it| text(&it["name"]))
        .collect();
    known.insert("__rate_interval".to_owned());
    let mut faults = Vec::new();
    for (title, query) in dashboard.queries() {
        let used = query.split('$').skip(1).map(|rest| {
            let end = rest.find(|it: char| !it.is_ascii_alphanumeric() && it != '_');
            rest[..end.unwrap_or(rest.len())].to_owned()
        });
        let unknown = used.filter(|name| !known.contains(name));
        faults.extend(unknown.map(|name| format!("{title}: there is no variable ${name}")));
    }
    report(&faults);
}

#[test]
fn each_query_can_be_parsed() {
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (number, (_, query)) in Dashboard::read().queries().into_iter().enumerate() {
        let query = Value::from(query.replace("$__rate_interval", "1m"));
        // JSON is YAML.
        writeln!(rules, "      - {{record: 'panel:{number}', expr: {query}}}").expect("a string");
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("dashboard.yml"), rules).expect("a file");
    promtool(directory.path(), &["check", "rules", "dashboard.yml"]);
}
