//! A collector that takes no spans holds nothing up.

use testkit::{Answer, Service, eventually};

use super::Traced;

const USERS: usize = 30;
const SECRET: &str = "hunter2";

/// Writes arrive, both services stop in good order, and one line says what became of the spans.
async fn works(traced: &Traced) {
    let users = traced.start("user-service").await;
    let notifications = traced.start("notification-service").await;
    for number in 0..USERS {
        users.create(&format!("User {number}")).await;
    }
    assert_eq!(traced.stack.converged().await.len(), USERS);
    for mut api in [users, notifications] {
        let process = &mut api.service.process;
        let status = process.stop().await;
        assert!(status.success(), "{status}");
        let output = process.output();
        let about_spans = output
            .iter()
            .filter(|line| line.contains("spans are dropped"));
        assert_eq!(about_spans.count(), 1, "{output:#?}");
    }
    assert_eq!(traced.collector.spans(), []);
}

#[tokio::test]
async fn without_a_collector_that_answers_writes_arrive_and_one_line_says_so() {
    let traced = Traced::new("1").await;
    traced.collector.answer_with(Answer::Hang);
    works(&traced).await;
}

#[tokio::test]
async fn with_a_collector_that_refuses_spans_writes_arrive_and_one_line_says_so() {
    let traced = Traced::new("1").await;
    traced.collector.answer_with(Answer::Refuse);
    works(&traced).await;
    assert!(!traced.collector.requests().is_empty());
}

#[tokio::test]
async fn without_a_collector_writes_arrive_and_one_line_says_so() {
    let mut traced = Traced::new("1").await;
    traced.settings[0].1 = "http://127.0.0.1:1".to_owned();
    works(&traced).await;
}

#[tokio::test]
async fn spans_are_sent_again_once_the_collector_takes_them() {
    let traced = Traced::new("1").await;
    traced.collector.answer_with(Answer::Refuse);
    let users = traced.start("user-service").await;
    let says = async |what: &str| {
        eventually(what, async || {
            let output = users.service.process.output();
            output.into_iter().find(|line| line.contains(what))
        })
        .await
    };
    users.create("Ada").await;
    says("spans are dropped").await;
    let metrics = users
        .client
        .get(format!("{}/metrics", users.url))
        .send()
        .await;
    let metrics = metrics.expect("an answer").text().await.expect("a text");
    let dropped = metrics
        .lines()
        .find(|line| line.contains(r#"{reason="export_failed"}"#));
    let dropped = dropped.expect("a count").rsplit(' ').next();
    assert_ne!(dropped, Some("0"), "{metrics}");
    traced.collector.answer_with(Answer::Take);
    users.create("Eve").await;
    let line = says("the collector takes spans again").await;
    assert!(line.contains("dropped_spans"), "{line}");
    assert!(!traced.collector.spans().is_empty());
}

#[tokio::test]
async fn headers_reach_the_collector_and_no_log() {
    let mut traced = Traced::new("1").await;
    let header = format!("authorization=Bearer%20{SECRET},x-tenant=a");
    traced.settings.push(("OTEL_EXPORTER_OTLP_HEADERS", header));
    traced.settings.push(("RUST_LOG", "trace".to_owned()));
    let mut users = traced.start("user-service").await;
    users.create("Ada").await;
    traced.exported(&["POST /users"]).await;
    users.service.process.stop().await;
    let requests = traced.collector.requests();
    let authorization = requests[0].get("authorization").expect("the header");
    assert_eq!(authorization, &format!("Bearer {SECRET}"));
    let output = users.service.process.output();
    let shown = output.iter().find(|line| line.contains(SECRET));
    assert_eq!(shown, None, "shown");
}

#[tokio::test]
async fn headers_that_are_not_valid_are_refused_without_being_shown() {
    let mut traced = Traced::new("1").await;
    let header = format!("{SECRET} without a name");
    traced.settings.push(("OTEL_EXPORTER_OTLP_HEADERS", header));
    let environment = [traced.stack.environment(), traced.settings.clone()].concat();
    let mut service = Service::start("user-service", &["serve"], &environment);
    let status = service.process.ended().await;
    assert!(!status.success(), "{status}");
    let output = service.process.output();
    let named = output
        .iter()
        .any(|line| line.contains("OTEL_EXPORTER_OTLP_HEADERS"));
    assert!(named, "{output:#?}");
    assert!(!output.iter().any(|line| line.contains(SECRET)), "shown");
}
