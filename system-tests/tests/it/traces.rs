//! Traces of the started services, as a collector gets them.

mod collector_away;
mod of_batches;
mod of_one_event;

use async_nats::HeaderMap;
use reqwest::StatusCode;
use serde_json::json;
use testkit::{CollectedSpan, Collector, Service, eventually};

use crate::support::{Api, Stack};

pub(crate) const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
pub(crate) const CALLER_SPAN_ID: &str = "b7ad6b7169203331";

/// The caller's, whose trace is sampled.
fn sampled() -> String {
    format!("00-{TRACE_ID}-{CALLER_SPAN_ID}-01")
}

/// Both services of one stack, whose spans go to one collector.
struct Traced {
    stack: Stack,
    collector: Collector,
    settings: Vec<(&'static str, String)>,
}

impl Traced {
    /// `ratio` of the traces that begin in the services are sampled.
    async fn new(ratio: &str) -> Self {
        let collector = Collector::start().await;
        let settings = vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url().to_owned()),
            ("OTEL_TRACES_SAMPLER_ARG", ratio.to_owned()),
            // What comes again has spans of its own.
            ("ACK_WAIT", "1min".to_owned()),
        ];
        Self {
            stack: Stack::new().await,
            collector,
            settings,
        }
    }

    async fn start(&self, binary: &str) -> Api {
        let environment = [self.stack.environment(), self.settings.clone()].concat();
        Api::ready(Service::start(binary, &["serve"], &environment)).await
    }

    /// Waits for spans of these names. What is sent at the end has little time.
    async fn exported(&self, names: &[&str]) {
        eventually(&format!("the spans {names:?}"), async || {
            let is_there = |name: &&str| !self.collector.named(name).is_empty();
            names.iter().all(is_there).then_some(())
        })
        .await;
    }

    /// All spans that the services have made by the time they stop.
    async fn stopped(&self, services: impl IntoIterator<Item = Api>) -> Vec<CollectedSpan> {
        for mut api in services {
            let status = api.service.process.stop().await;
            assert!(status.success(), "{status}");
        }
        self.collector.spans()
    }

    /// Of the event at this place of the stream.
    async fn headers(&self, sequence: u64) -> HeaderMap {
        let stream = self.stack.stream().await;
        let message = stream.get_raw_message(sequence).await;
        message.expect("a message").headers
    }

    /// The trace contexts that the outbox has, in its order.
    async fn stored(&self) -> Vec<(Option<String>, Option<String>)> {
        let stored = sqlx::query_as(
            "select headers ->> 'traceparent', headers ->> 'tracestate' from outbox.event order by id",
        );
        let stored = stored.fetch_all(&self.stack.postgres.pool).await;
        stored.expect("the events")
    }
}

/// Creates a user with these headers.
async fn create(users: &Api, name: &str, email: &str, headers: &[(&str, &str)]) -> i64 {
    let body = json!({ "name": name, "email": email });
    let mut request = users
        .client
        .post(format!("{}/users", users.url))
        .json(&body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.expect("an answer");
    assert_eq!(response.status(), StatusCode::CREATED);
    let user: serde_json::Value = response.json().await.expect("a user");
    user["id"].as_i64().expect("an id")
}
