//! A collector of spans: OTLP over HTTP, as the specification has it, kept in memory.

mod tls;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
    serve::Listener,
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{self as otlp, span::SpanKind, status::StatusCode as SpanStatus},
};
use prost::Message as _;
use tokio::{net::TcpListener, task::AbortHandle};

use self::tls::TlsListener;
use crate::Authority;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Take,
    /// With 500.
    Refuse,
    /// Never.
    Hang,
}

/// Takes spans as long as it is there.
#[derive(Debug)]
pub struct Collector {
    url: String,
    collected: Arc<Mutex<Collected>>,
    server: AbortHandle,
}

#[derive(Debug)]
struct Collected {
    answer: Answer,
    requests: Vec<HeaderMap>,
    spans: Vec<CollectedSpan>,
}

/// A span as it was received. Ids are hexadecimal, as logs have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectedSpan {
    /// `service.name`
    pub service: String,
    pub name: String,
    pub kind: SpanKind,
    pub trace_id: String,
    pub span_id: String,
    /// Empty if it has none.
    pub parent_span_id: String,
    pub tracestate: String,
    /// Trace and span ids.
    pub links: Vec<(String, String)>,
    /// Values as text.
    pub attributes: BTreeMap<String, String>,
    pub is_error: bool,
    pub nanoseconds: u64,
}

impl CollectedSpan {
    /// # Panics
    /// If it has no such attribute.
    #[must_use]
    pub fn attribute(&self, name: &str) -> &str {
        let found = self.attributes.get(name);
        found.unwrap_or_else(|| panic!("{name} is missing: {self:?}"))
    }

    #[must_use]
    pub fn ids(&self) -> (String, String) {
        (self.trace_id.clone(), self.span_id.clone())
    }
}

fn router(collected: Arc<Mutex<Collected>>) -> Router {
    Router::new()
        .route("/v1/traces", post(collect))
        .with_state(collected)
}

impl Collector {
    /// # Panics
    /// If it can't listen.
    pub async fn start() -> Self {
        Self::serve("http", listener().await)
    }

    /// Over TLS, with a certificate of this authority.
    ///
    /// # Panics
    /// If it can't listen.
    pub async fn start_tls(authority: &Authority) -> Self {
        Self::serve("https", TlsListener::new(listener().await, authority))
    }

    fn serve<L: Listener<Addr = SocketAddr>>(scheme: &str, listener: L) -> Self {
        let address = listener.local_addr().expect("an address");
        let collected = Arc::new(Mutex::new(Collected {
            answer: Answer::Take,
            requests: Vec::new(),
            spans: Vec::new(),
        }));
        let routes = router(collected.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await });
        Self {
            url: format!("{scheme}://{address}"),
            collected,
            server: serving.abort_handle(),
        }
    }

    /// For `OTEL_EXPORTER_OTLP_ENDPOINT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn answer_with(&self, answer: Answer) {
        lock(&self.collected).answer = answer;
    }

    /// The headers of the requests so far, whatever the answer.
    #[must_use]
    pub fn requests(&self) -> Vec<HeaderMap> {
        lock(&self.collected).requests.clone()
    }

    #[must_use]
    pub fn spans(&self) -> Vec<CollectedSpan> {
        lock(&self.collected).spans.clone()
    }

    /// Those of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Vec<CollectedSpan> {
        let spans = self.spans().into_iter();
        spans.filter(|span| span.name == name).collect()
    }

    /// The only span of this name.
    ///
    /// # Panics
    /// If there is none, or there are several.
    #[must_use]
    pub fn only(&self, name: &str) -> CollectedSpan {
        let mut found = self.named(name);
        assert_eq!(found.len(), 1, "{name}: {:#?}", self.spans());
        found.remove(0)
    }
}

async fn listener() -> TcpListener {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    listener.expect("a free port")
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn collect(
    State(collected): State<Arc<Mutex<Collected>>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Vec<u8>, StatusCode> {
    let answer = {
        let mut collected = lock(&collected);
        collected.requests.push(headers);
        collected.answer
    };
    match answer {
        Answer::Take => {}
        Answer::Refuse => return Err(StatusCode::INTERNAL_SERVER_ERROR),
        Answer::Hang => std::future::pending().await,
    }
    let request = ExportTraceServiceRequest::decode(body);
    let request = request.map_err(|_| StatusCode::BAD_REQUEST)?;
    lock(&collected).spans.extend(spans(request));
    Ok(ExportTraceServiceResponse::default().encode_to_vec())
}

fn lock(collected: &Mutex<Collected>) -> MutexGuard<'_, Collected> {
    collected.lock().expect("nobody panics with it")
}

fn spans(request: ExportTraceServiceRequest) -> Vec<CollectedSpan> {
    let of_resource = |resource: otlp::ResourceSpans| {
        let service = service(resource.resource);
        let spans = (resource.scope_spans.into_iter()).flat_map(|scope| scope.spans);
        spans.map(move |span| read(service.clone(), span))
    };
    (request.resource_spans.into_iter())
        .flat_map(of_resource)
        .collect()
}

fn service(resource: Option<Resource>) -> String {
    let attributes = resource.unwrap_or_default().attributes;
    let mut attributes = texts(attributes);
    attributes.remove("service.name").unwrap_or_default()
}

fn read(service: String, span: otlp::Span) -> CollectedSpan {
    let links = span.links.iter();
    CollectedSpan {
        service,
        kind: span.kind(),
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent_span_id: hex(&span.parent_span_id),
        links: links
            .map(|link| (hex(&link.trace_id), hex(&link.span_id)))
            .collect(),
        is_error: (span.status.as_ref()).is_some_and(|it| it.code() == SpanStatus::Error),
        nanoseconds: span.end_time_unix_nano - span.start_time_unix_nano,
        attributes: texts(span.attributes),
        name: span.name,
        tracestate: span.trace_state,
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value.and_then(|it| it.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(is_so)) => is_so.to_string(),
        other => format!("{other:?}"),
    };
    let attributes = attributes.into_iter();
    attributes.map(|it| (it.key, text(it.value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}
