//! What the roles expose is what docs/metrics.md says.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
};

use reqwest::StatusCode;
use testkit::{Service, eventually, postgres::Database, unique};
use tokio::{io::AsyncWriteExt, process::Command};

use crate::support::{Api, Stack};

const DOCUMENT: &str = include_str!("../../../docs/metrics.md");
const LABELS_OF_THE_FORMAT: [&str; 1] = ["le"];

/// What may be missing, because not every role has it.
const NOT_EVERYWHERE: &[&str] = &[
    // A process without an API.
    "http_server_requests_in_flight_max",
    // One that sends no traces.
    "traces_exported_spans_total",
    "traces_dropped_spans_total",
];

/// A metric: its type and its labels.
type Families = BTreeMap<String, (String, BTreeSet<String>)>;

#[tokio::test]
async fn every_role_exposes_what_is_documented_and_nothing_else() {
    let stack = Stack::new().await;
    let users = stack.users(&[]).await;
    let arguments = ["serve", "--verify-users", &users.url];
    let notifications = Api::ready(stack.start("notification-service", &arguments)).await;
    users.create("Ada").await;
    stack.converged().await;
    // One that is active: a standby has less to tell.
    let producer = Stack::new().await;
    let relay = producer.relay().await;
    let other = Database::create().await;
    let own_database = [
        ("DATABASE_URL", other.url.clone()),
        ("NATS_CONSUMER", unique("audit")),
    ];
    let own_database = [&stack.environment()[..], &own_database].concat();
    let audit_log = Service::start("audit-log", &["serve"], &own_database);
    let route = format!("order={}:{}", unique("ORDERS"), unique("orders"));
    let ledger = Database::create().await;
    let own_ledger = [
        ("DATABASE_URL", ledger.url.clone()),
        ("RELAY_ROUTES", route),
    ];
    let own_ledger = [&stack.environment()[..], &own_ledger].concat();
    let outbox_relay = Service::start("outbox-relay", &["run"], &own_ledger);

    let producers = ["service-runtime", "postgres-pool", "outbox"];
    for (role, service, sections) in [
        ("user-service serve", &users.service, &producers[..]),
        ("user-service relay", &relay, &producers),
        ("outbox-relay run", &outbox_relay, &producers),
        (
            "notification-service serve",
            &notifications.service,
            &["service-runtime", "event-consumer", "notification-service"],
        ),
        (
            "audit-log serve",
            &audit_log,
            &["service-runtime", "postgres-pool", "event-consumer"],
        ),
    ] {
        let url = service.url().await;
        let documented = documented(sections);
        let mut known = Vec::new();
        // Some are there once the role has connected to its servers.
        let text = eventually("the metrics that are documented", async || {
            let text = scrape(&url).await?;
            let faults = faults(&exposed(&text), &documented);
            if faults != known {
                println!("{role}: {faults:#?}");
            }
            known = faults;
            known.is_empty().then_some(text)
        });
        check_by_prometheus(role, &text.await).await;
    }
}

#[tokio::test]
async fn without_metrics_there_are_none() {
    let stack = Stack::new().await;
    let users = stack.users(&["--metrics", "off", "--no-relay"]).await;
    let answer = users.client.get(format!("{}/metrics", users.url)).send();
    let answer = answer.await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    users.create("Ada").await;
}

async fn scrape(url: &str) -> Option<String> {
    let answer = reqwest::get(format!("{url}/metrics")).await.ok()?;
    assert_eq!(answer.status(), StatusCode::OK);
    answer.text().await.ok()
}

fn faults(exposed: &Families, documented: &Families) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, family) in exposed {
        match documented.get(name) {
            None => faults.push(format!("{name} is not documented")),
            Some(expected) if expected != family => {
                faults.push(format!("{name} is {family:?}, documented as {expected:?}"));
            }
            Some(_) => {}
        }
    }
    let missing = documented
        .keys()
        .filter(|name| !exposed.contains_key(*name) && !NOT_EVERYWHERE.contains(&name.as_str()));
    faults.extend(missing.map(|name| format!("{name} is not exposed")));
    faults
}

fn exposed(text: &str) -> Families {
    let mut families = Families::new();
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').expect("a type");
            families.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        }
        if line.starts_with('#') || line.is_empty() {
            continue;
        }
        let series = line.rsplit_once(' ').expect("a value").0;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let of_histogram = ["_bucket", "_sum", "_count"].into_iter();
        let bases = of_histogram.filter_map(|end| name.strip_suffix(end));
        let name = bases
            .chain([name])
            .find(|it| families.contains_key(*it))
            .unwrap_or_else(|| panic!("a series without a type: {line}"));
        // No value has a `="` in it.
        let labels = labels
            .split("=\"")
            .filter_map(|part| part.rsplit(['{', ',']).next());
        let labels = labels.filter(|it| is_label(it) && !LABELS_OF_THE_FORMAT.contains(it));
        let family = families.get_mut(name).expect("it was found");
        family.1.extend(labels.map(str::to_owned));
    }
    families
}

fn is_label(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|it| it.is_ascii_lowercase() || it == b'_')
}

/// The tables in these sections of the document.
fn documented(sections: &[&str]) -> Families {
    let mut families = Families::new();
    for section in sections {
        let heading = format!("\n## {section}\n");
        let (_, rest) = DOCUMENT.split_once(&heading).expect("a section");
        let table = rest.split("\n## ").next().unwrap_or_default();
        for row in table.lines().filter_map(|line| line.strip_prefix("| `")) {
            let mut cells = row.split(" | ");
            let mut cell = || cells.next().expect("a cell").trim_matches('`').to_owned();
            let (name, kind, labels) = (cell(), cell(), cell());
            let labels = labels.split(", ").map(|it| it.trim_matches([' ', '`']));
            let labels = labels.filter(|it| !it.is_empty()).map(str::to_owned);
            families.insert(name, (kind, labels.collect()));
        }
    }
    families
}

/// What Prometheus itself has to say of names, types and help texts.
async fn check_by_prometheus(role: &str, text: &str) {
    #[expect(clippy::disallowed_methods, reason = "tests have no command line")]
    let promtool = std::env::var("PROMTOOL_BIN").unwrap_or_else(|_| "promtool".to_owned());
    let mut promtool = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("promtool, of the Debian package prometheus, or PROMTOOL_BIN");
    let mut input = promtool.stdin.take().expect("a pipe");
    input.write_all(text.as_bytes()).await.expect("it reads");
    drop(input);
    let output = promtool.wait_with_output().await.expect("an end");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{role}: {said}");
}
