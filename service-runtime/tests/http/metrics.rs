//! `/metrics`: who gets an answer, and what it says of requests; and docs/metrics.md, which says what the
//! code says. Write that anew with `UPDATE_SCHEMA=1 cargo test -p service-runtime --test http metrics`.

use std::{fs, net::SocketAddr, time::Duration};

use axum::{Router, routing::get};
use reqwest::{Method, Response, StatusCode, header};
use service_runtime::{
    health::Check,
    http::{self, HttpSettings, Routes},
    metrics::{self, MetricsSettings},
    operator,
};
use testkit::{assert_published_section, eventually};

use crate::support::{Server, send};

const TOKEN: &str = "a-token-for-metrics";
const READER: &str = "reader-reader-reader";

async fn serve(settings: &MetricsSettings, listens_on: &str) -> Server {
    metrics::install(settings, "some-service", "1.2.3", &[]);
    let address: SocketAddr = listens_on.parse().expect("an address");
    let listener = http::bind(address).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let checks = vec![
        Check::new("fine", async || Ok(())),
        Check::new("broken", async || Err(anyhow::anyhow!("it is broken"))),
    ];
    let routes = Routes {
        bounded: Router::new()
            .route("/things/{id}", get(async || "a thing"))
            .route("/slow", get(std::future::pending::<&'static str>))
            .into(),
        health: operator::router(checks, settings, address).expect("valid settings"),
        ..Routes::default()
    };
    let settings = HttpSettings {
        tokens: Some(format!("read {READER}").into()),
        rate_limit: Some(1_000),
        ..HttpSettings::default()
    };
    Server::at(listener, routes, settings)
}

impl Server {
    async fn metrics(&self, token: &str) -> Response {
        let request = self.request(Method::GET, "/metrics");
        let request = match token {
            "" => request,
            token => request.bearer_auth(token),
        };
        send(request).await
    }

    /// The lines, without comments.
    async fn series(&self) -> Vec<String> {
        let answer = self.metrics("").await;
        assert_eq!(answer.status(), StatusCode::OK);
        let text = answer.text().await.expect("text");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    }

    async fn read(&self, method: &str, path: &str) -> StatusCode {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let request = self.request(method, path).bearer_auth(READER);
        send(request).await.status()
    }
}

#[tokio::test]
async fn on_loopback_whoever_is_on_this_host_may_read_metrics_and_web_pages_and_a_proxys_clients_may_not()
 {
    let server = serve(&MetricsSettings::default(), "127.0.0.1:0").await;
    let answer = server.metrics("").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(
        answer.headers()[header::CONTENT_TYPE],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    for (name, value) in [
        ("host", "evil.example"),
        ("x-forwarded-for", "192.0.2.1"),
        ("forwarded", "for=192.0.2.1"),
    ] {
        let request = server.request(Method::GET, "/metrics").header(name, value);
        let answer = send(request).await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{name}");
    }
}

#[tokio::test]
async fn where_others_can_reach_them_metrics_need_a_token_or_a_setting() {
    let closed = serve(&MetricsSettings::default(), "0.0.0.0:0").await;
    let answer = closed.metrics("").await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let problem = answer.text().await.expect("text");
    assert!(problem.contains("/problems/metrics-closed"), "{problem}");

    let open = MetricsSettings {
        metrics_open: true,
        ..MetricsSettings::default()
    };
    let open = serve(&open, "0.0.0.0:0").await;
    assert_eq!(open.metrics("").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_token_is_needed_where_one_is_set_and_a_file_is_read_again() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&file, format!("{TOKEN}\n")).expect("a token");
    let of_file = MetricsSettings {
        metrics_token_file: Some(file.path().to_owned()),
        ..MetricsSettings::default()
    };
    let of_environment = MetricsSettings {
        metrics_token: Some(TOKEN.into()),
        ..MetricsSettings::default()
    };
    for settings in [&of_file, &of_environment] {
        let server = serve(settings, "127.0.0.1:0").await;
        for wrong in ["", "a-token-for-metric", READER] {
            let answer = server.metrics(wrong).await;
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{wrong:?}");
            assert_eq!(answer.headers()[header::WWW_AUTHENTICATE], "Bearer");
        }
        assert_eq!(server.metrics(TOKEN).await.status(), StatusCode::OK);
    }
    let server = serve(&of_file, "127.0.0.1:0").await;
    fs::write(&file, "another-token-for-metrics").expect("another token");
    assert_eq!(
        server.metrics(TOKEN).await.status(),
        StatusCode::UNAUTHORIZED
    );
    fs::write(&file, "").expect("no token");
    assert_eq!(server.metrics("").await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_token_that_could_be_guessed_is_refused_at_the_start_and_not_shown() {
    let settings = MetricsSettings {
        metrics_token: Some("short".into()),
        ..MetricsSettings::default()
    };
    let address = "127.0.0.1:0".parse().expect("an address");
    let router = operator::router::<()>(vec![], &settings, address);
    let error = router
        .err()
        .map_or(String::new(), |error| format!("{error:#}"));
    assert!(
        error.contains("METRICS_TOKEN") && !error.contains("short"),
        "{error}"
    );
}

#[tokio::test]
async fn what_an_attacker_sends_creates_no_series_of_its_own() {
    let server = serve(&MetricsSettings::default(), "127.0.0.1:0").await;
    let names = async || {
        let mut names: Vec<_> = (server.series().await.into_iter())
            .filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()))
            .collect();
        names.sort();
        names
    };
    for path in ["/things/0", "/nothing"] {
        server.read("GET", path).await;
        server.read("OTHER", path).await;
    }
    server.metrics("").await;
    let before = names().await;
    assert!(before.iter().any(|it| it.contains("/things/{id}")));
    for attempt in 0..50 {
        for path in [format!("/things/{attempt}"), format!("/nothing/{attempt}")] {
            server.read("GET", &path).await;
            server.read(&format!("M{attempt}"), &path).await;
        }
    }
    assert_eq!(names().await, before);
}

#[tokio::test]
async fn requests_are_counted_by_method_route_and_status_also_if_the_client_leaves() {
    let server = serve(&MetricsSettings::default(), "127.0.0.1:0").await;
    let count = async |labels: &str| {
        let begin = format!("http_server_request_duration_seconds_count{{{labels}}} ");
        let series = server.series().await;
        let counts = series.iter().filter_map(|line| line.strip_prefix(&begin));
        counts
            .map(|it| it.parse::<u64>().expect("a count"))
            .sum::<u64>()
    };
    let found = r#"method="GET",route="/things/{id}",status="200""#;
    let lost = r#"method="GET",route="unmatched",status="404""#;
    let (found_before, lost_before) = (count(found).await, count(lost).await);
    server.read("GET", "/things/1").await;
    server.read("GET", "/things/2").await;
    server.read("GET", "/thing").await;
    assert_eq!(count(found).await, found_before + 2);
    assert_eq!(count(lost).await, lost_before + 1);

    let left = r#"method="GET",route="/slow",status="499""#;
    let before = count(left).await;
    let request = server.request(Method::GET, "/slow").bearer_auth(READER);
    let request = request.timeout(Duration::from_millis(100));
    request.send().await.expect_err("it never ends");
    eventually("the request to be counted", async || {
        (count(left).await == before + 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn rejections_checks_and_the_build_are_told() {
    let server = serve(&MetricsSettings::default(), "127.0.0.1:0").await;
    let value = async |name: &str| {
        let series = server.series().await;
        let line = series.iter().find_map(|it| it.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {series:#?}"))
            .trim()
            .parse::<f64>()
            .expect("a number")
    };
    let rejected = r#"http_server_rejected_total{reason="no_token"}"#;
    let before = value(rejected).await;
    let refused = server.get("/things/1").await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert!((value(rejected).await - before - 1.0).abs() < 0.1);
    for (name, expected) in [
        (r#"readiness_check{check="fine"}"#, 1.0),
        (r#"readiness_check{check="broken"}"#, 0.0),
        (r#"build_info{service="some-service",version="1.2.3"}"#, 1.0),
        (r#"http_server_rejected_total{reason="rate_limit"}"#, 0.0),
    ] {
        assert!((value(name).await - expected).abs() < 0.1, "{name}");
    }
    assert!(value("http_server_connections ").await >= 1.0);
    assert!(value("process_resident_memory_bytes ").await > 1.0);
}

#[test]
fn the_list_of_metrics_is_up_to_date() {
    let list = metrics::markdown(&[metrics::METRICS]);
    assert_published_section("docs/metrics.md", "service-runtime", &list);
}
