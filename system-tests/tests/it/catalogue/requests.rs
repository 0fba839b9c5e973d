//! Requests and what they are answered with.

use futures::{StreamExt, stream};
use serde::Deserialize;

use super::{connection::Connection, expected::Expected, report, serving::Serving, text::Values};

/// How many requests are under way at once.
const CONCURRENCY: usize = 8;

/// A file of requests.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Requests {
    /// What each is sent to: `users`, `notifications` or both.
    to: Vec<String>,
    /// Of both services.
    #[serde(default)]
    arguments: Vec<String>,
    /// What a normal client needs, if it needs one.
    token: Option<String>,
    request: Vec<Request>,
}

/// A request, and what it is answered with. Either the whole of it is `raw`, or there are a `head` such as
/// `GET /users`, `headers` and a `body`; then what is missing is added: the version, `host`, the length of
/// the body, and `connection: close`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    name: String,
    raw: Option<String>,
    #[serde(default)]
    head: String,
    #[serde(default)]
    headers: Vec<String>,
    body: Option<String>,
    /// The connection ends without an answer.
    #[serde(default)]
    ends: bool,
    answer: Option<Expected>,
    /// Instead of one, to requests that are sent one behind the other.
    #[serde(default)]
    answers: Vec<Expected>,
}

/// Sends all requests of an area and compares the answers; then the services must serve as before.
pub(super) async fn check(area: &str) {
    let requests: Requests = super::read(area);
    let serving = Serving::start(&requests.arguments, requests.token.as_deref()).await;
    let mut faults = Vec::new();
    for service in &requests.to {
        let (address, values) = serving.target(service);
        let checks = requests
            .request
            .iter()
            .map(|request| request.faults(&address, &values));
        let found: Vec<_> = stream::iter(checks).buffered(CONCURRENCY).collect().await;
        let found = found.into_iter().flatten();
        faults.extend(found.map(|fault| format!("{service}: {fault}")));
    }
    faults.extend(serving.faults_after_requests().await);
    report(area, &faults);
}

impl Request {
    async fn faults(&self, address: &str, values: &Values) -> Option<String> {
        let mut connection = Connection::send(address, &self.bytes(values)).await;
        let expected: Vec<_> = self.answers.iter().chain(&self.answer).collect();
        let mut faults = Vec::new();
        for expected in &expected {
            let to_head = self.head.starts_with("HEAD ");
            match connection.answer(to_head).await {
                Some(answer) => {
                    let found = expected.faults(&answer, values);
                    let body = String::from_utf8_lossy(&answer.body).into_owned();
                    if !found.is_empty() {
                        faults.push(format!("{}\n    {body}", found.join("\n    ")));
                    }
                }
                None => faults.push("no answer".to_owned()),
            }
        }
        if self.ends || expected.iter().any(|it| it.is_bare()) {
            let rest = connection.rest().await;
            if !rest.is_empty() {
                faults.push(format!("more came: {}", rest.escape_ascii()));
            }
        }
        (!faults.is_empty()).then(|| format!("{}:\n    {}", self.name, faults.join("\n    ")))
    }

    fn bytes(&self, values: &Values) -> Vec<u8> {
        if let Some(raw) = &self.raw {
            return values.expand(raw);
        }
        let mut bytes = values.expand(&self.head);
        bytes.extend(b" HTTP/1.1\r\nconnection: close\r\n");
        let is_set = |name: &str| {
            let mut names = self.headers.iter().filter_map(|it| it.split(':').next());
            names.any(|it| it.eq_ignore_ascii_case(name))
        };
        if !is_set("host") {
            bytes.extend(values.expand("host: ${host}\\r\\n"));
        }
        for header in &self.headers {
            bytes.extend(values.expand(header));
            bytes.extend(b"\r\n");
        }
        let body = self.body.as_ref().map(|body| values.expand(body));
        if let Some(body) = body.as_ref().filter(|_| !is_set("content-length")) {
            bytes.extend(format!("content-length: {}\r\n", body.len()).bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(body.unwrap_or_default());
        bytes
    }
}
