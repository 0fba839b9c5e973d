//! A server with routes of every kind.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

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
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub(crate) const API: Api = Api {
    title: "Some service",
    about: "For tests.",
    problems: &[OUT_OF_TEA],
    headers: &[],
};

const GRACE: Duration = Duration::from_secs(1);
const OUT_OF_TEA: Kind = Kind::new(
    "out-of-tea",
    StatusCode::SERVICE_UNAVAILABLE,
    "Out of tea",
    "Ask again after `Retry-After`.",
);

pub(crate) struct Server {
    /// Where clients on this host reach it.
    pub(crate) address: SocketAddr,
    pub(crate) client: Client,
    pub(crate) shutdown: CancellationToken,
    pub(crate) serving: JoinHandle<anyhow::Result<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Server {
    pub(crate) async fn start(settings: HttpSettings) -> Self {
        Self::with(routes(), settings).await
    }

    pub(crate) async fn with(routes: Routes, settings: HttpSettings) -> Self {
        let listener = http::bind("127.0.0.1:0".parse().expect("an address")).await;
        Self::at(listener.expect("a free port"), routes, settings)
    }

    pub(crate) fn at(listener: TcpListener, routes: Routes, settings: HttpSettings) -> Self {
        let mut address = listener.local_addr().expect("an address");
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let serving = http::serve(listener, routes, &API, settings, token, GRACE);
        Self {
            address,
            client: Client::new(),
            shutdown,
            serving: tokio::spawn(serving),
        }
    }

    pub(crate) fn to(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, self.to(path))
            .header("x-request-id", "the-request")
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        send(self.request(Method::GET, path)).await
    }
}

/// Routes of every kind.
pub(crate) fn routes() -> Routes {
    let bounded = Router::new()
        .route("/fine", any(async || "fine"))
        .route("/large", get(async || "0123456789".repeat(2_000)))
        .route(
            "/panic",
            get(async || -> &'static str { panic!("dropped it") }),
        )
        .route("/never", get(std::future::pending::<&'static str>))
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
    Routes {
        bounded: bounded.into(),
        streaming: streaming.into(),
        public: public.into(),
        health: health::router(vec![]),
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
