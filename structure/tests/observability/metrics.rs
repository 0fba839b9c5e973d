//! The metrics that the code declares, as `docs/metrics.md` lists them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    alerts::Alert,
    dashboard::Dashboard,
    expression::{self, Names},
    read, report,
};

/// What Prometheus itself adds: series, and labels of every series.
const OF_PROMETHEUS: &[(&str, &[&str])] = &[
    ("up", &[]),
    ("ALERTS", &["alertname", "alertstate", "severity"]),
];
const OF_TARGETS: &[&str] = &["job", "instance"];

type Declared = BTreeMap<String, BTreeSet<String>>;

#[test]
fn alerts_and_dashboard_use_only_metrics_and_labels_that_the_code_declares() {
    let declared = declared();
    let alerts = Alert::all().into_iter();
    let alerts = alerts.map(|alert| (format!("the alert {}", alert.name), alert.expression()));
    let panels = Dashboard::read().queries().into_iter();
    let panels = panels.map(|(panel, query)| (format!("the panel \"{panel}\""), query));
    let faults = alerts.chain(panels).flat_map(|(place, expression)| {
        let faults = faults_in(&expression::names(&expression), &declared);
        faults
            .into_iter()
            .map(move |fault| format!("{place}: {fault}"))
    });
    report(&faults.collect::<Vec<_>>());
}

fn faults_in(names: &Names, declared: &Declared) -> Vec<String> {
    let mut faults = Vec::new();
    let mut known: BTreeSet<&str> = OF_TARGETS.iter().copied().collect();
    for (metric, labels) in &names.metrics {
        let Some(has) = declared.get(metric) else {
            faults.push(format!("no metric {metric} is declared"));
            continue;
        };
        known.extend(has.iter().map(String::as_str));
        let unknown =
            (labels.iter()).filter(|it| !has.contains(*it) && !OF_TARGETS.contains(&it.as_str()));
        faults.extend(unknown.map(|label| format!("{metric} has no label {label}")));
    }
    let unknown = names
        .labels
        .iter()
        .filter(|it| !known.contains(it.as_str()));
    faults.extend(unknown.map(|label| format!("none of its metrics has a label {label}")));
    faults
}

/// Rows such as ``| `name` | counter | `label`, `label` | meaning |``.
fn declared() -> Declared {
    let mut declared = Declared::new();
    for line in read("docs/metrics.md").lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, name, kind, labels, ..] = cells[..] else {
            continue;
        };
        let Some(name) = name.strip_prefix('`').and_then(|it| it.strip_suffix('`')) else {
            continue;
        };
        let labels = labels.split('`').skip(1).step_by(2).map(str::to_owned);
        let labels: BTreeSet<_> = labels.collect();
        if kind.starts_with("histogram") {
            for part in ["_count", "_sum", "_bucket"] {
                let mut labels = labels.clone();
                labels.extend((part == "_bucket").then(|| "le".to_owned()));
                declared.insert(format!("{name}{part}"), labels);
            }
        }
        declared.insert(name.to_owned(), labels);
    }
    for (name, labels) in OF_PROMETHEUS {
        let labels = labels.iter().map(ToString::to_string).collect();
        declared.insert((*name).to_owned(), labels);
    }
    declared
}

#[test]
fn an_unknown_metric_or_label_is_found() {
    let labels = ["stream".to_owned()].into();
    let declared = Declared::from([("a_total".to_owned(), labels)]);
    let faults = |expression| faults_in(&expression::names(expression), &declared);
    let good = r#"sum by (job, stream) (a_total{stream="x",instance="y"})"#;
    assert_eq!(faults(good), Vec::<String>::new());
    assert_eq!(faults("b_total"), ["no metric b_total is declared"]);
    let label = r#"a_total{consumer="x"}"#;
    assert_eq!(faults(label), ["a_total has no label consumer"]);
    let grouping = "sum by (consumer) (a_total)";
    assert_eq!(
        faults(grouping),
        ["none of its metrics has a label consumer"]
    );
}
