//! A server with routes of every kind.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{Method, StatusCode, header},
    routing::{any, get, post},
};
use futures::{StreamExt, stream};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use service_runtime::{
    health,
    http::{self, HttpSettings, Routes},
    openapi::Api,
    problem::Kind,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub(crate) const API: Api = Api {
    title: "Some service",
    about: "For tests.",
    problems: &[OUT_OF_TEA],
    headers: &[],
};

const OUT_OF_TEA: Kind = Kind::new(
    "out-of-tea",
    StatusCode::SERVICE_UNAVAILABLE,
    "Out of tea",
    "Ask again after `Retry-After`.",
);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) client: Client,
    /// Lets the requests to `/held` go.
    pub(crate) held: Arc<Notify>,
    pub(crate) shutdown: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Server {
    pub(crate) async fn start(settings: HttpSettings) -> Self {
        let held = Arc::new(Notify::new());
        let hold = held.clone();
        let bounded = Router::new()
            .route("/fine", any(async || "fine"))
            .route("/large", get(async || "0123456789".repeat(2_000)))
            .route(
                "/panic",
                get(async || -> &'static str { panic!("dropped it") }),
            )
            .route("/never", get(std::future::pending::<&'static str>))
            .route(
                "/held",
                get(async move || {
                    hold.notified().await;
                    "held"
                }),
            )
            .route(
                "/body",
                post(async |request: Request| {
                    let body = http::read_body(request.into_body(), 100).await;
                    body.map(|body| body.len().to_string())
                }),
            );
        let endless = async || {
            let drops = stream::repeat_with(|| Ok::<_, std::io::Error>("drop\n".repeat(10_000)));
            let drops = drops.chain(stream::pending());
            (
                [(header::CONTENT_TYPE, "text/event-stream")],
                Body::from_stream(drops),
            )
        };
        let streaming = Router::new().route("/stream", get(endless));
        let public = Router::new().route("/page", get(async || "a page"));
        let listener = http::bind("127.0.0.1:0".parse().expect("an address")).await;
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shutdown = CancellationToken::new();
        let serving = http::serve(
            listener,
            Routes {
                bounded: bounded.into(),
                streaming: streaming.into(),
                public: public.into(),
                health: health::router(vec![]),
            },
            &API,
            settings,
            shutdown.clone(),
            Duration::from_secs(1),
        );
        tokio::spawn(serving);
        Self {
            address,
            client: Client::new(),
            held,
            shutdown,
        }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("http://{}{path}", self.address);
        self.client
            .request(method, url)
            .header("x-request-id", "the-request")
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        send(self.request(Method::GET, path)).await
    }
}

pub(crate) async fn send(request: RequestBuilder) -> Response {
    request.send().await.expect("an answer")
}

pub(crate) async fn problem(response: Response) -> Value {
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    assert_eq!(response.headers()["x-request-id"], "the-request");
    let status = response.status().as_u16();
    let problem: Value = response.json().await.expect("JSON");
    assert_eq!(problem["status"], status);
    problem
}
