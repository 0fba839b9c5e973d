//! What every request meets, against a server that listens.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
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
use testkit::eventually;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};
use tokio_util::sync::CancellationToken;

const API: Api = Api {
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

struct Server {
    address: SocketAddr,
    client: Client,
    /// Lets the requests to `/held` go.
    held: Arc<Notify>,
    shutdown: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Server {
    async fn start(settings: HttpSettings) -> Self {
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
        let listener = http::bind("127.0.0.1:0".parse().expect("an address")).await;
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shutdown = CancellationToken::new();
        let serving = http::serve(
            listener,
            Routes {
                bounded: bounded.into(),
                streaming: streaming.into(),
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

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("http://{}{path}", self.address);
        self.client
            .request(method, url)
            .header("x-request-id", "the-request")
    }

    async fn get(&self, path: &str) -> Response {
        send(self.request(Method::GET, path)).await
    }
}

async fn send(request: RequestBuilder) -> Response {
    request.send().await.expect("an answer")
}

async fn problem(response: Response) -> Value {
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

#[tokio::test]
async fn what_axum_answers_by_itself_is_a_problem_too() {
    let server = Server::start(HttpSettings::default()).await;
    insta::assert_json_snapshot!(problem(server.get("/nowhere").await).await, @r#"
    {
      "request_id": "the-request",
      "status": 404,
      "title": "Not found",
      "type": "/problems/not-found"
    }
    "#);
    insta::assert_json_snapshot!(problem(server.get("/panic").await).await, @r#"
    {
      "request_id": "the-request",
      "status": 500,
      "title": "Internal error",
      "type": "/problems/internal"
    }
    "#);
    let wrong_method = send(server.request(Method::DELETE, "/large")).await;
    assert_eq!(wrong_method.headers()[header::ALLOW], "GET,HEAD");
    insta::assert_json_snapshot!(problem(wrong_method).await, @r#"
    {
      "request_id": "the-request",
      "status": 405,
      "title": "Method not allowed",
      "type": "/problems/method-not-allowed"
    }
    "#);
}

#[tokio::test]
async fn what_a_client_prefers_to_read_makes_no_difference() {
    let server = Server::start(HttpSettings::default()).await;
    let prefers_html = (server.request(Method::GET, "/fine")).header(header::ACCEPT, "text/html");
    assert_eq!(send(prefers_html).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_type_of_a_problem_leads_to_its_page() {
    let server = Server::start(HttpSettings::default()).await;
    let problem = problem(server.get("/nowhere").await).await;
    let page = server.get(problem["type"].as_str().expect("a type")).await;
    assert_eq!(page.status(), StatusCode::OK);
    assert!(page.text().await.expect("text").contains("Not found"));
    let all = server.get("/problems").await.text().await.expect("text");
    assert!(all.contains("out-of-tea") && all.contains("<code>Retry-After</code>"));
    assert_eq!(
        server.get("/problems/none").await.status(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_and_the_client_hears_of_it() {
    let server = Server::start(HttpSettings::default()).await;
    let post = |size| send(server.request(Method::POST, "/body").body(vec![b'x'; size]));
    assert_eq!(post(100).await.text().await.expect("text"), "100");
    insta::assert_json_snapshot!(problem(post(5_000_000).await).await, @r#"
    {
      "detail": "the body must have at most 100 bytes",
      "request_id": "the-request",
      "status": 413,
      "title": "Body too large",
      "type": "/problems/body-too-large"
    }
    "#);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let server = Server::start(HttpSettings::default()).await;
    let mut connection = TcpStream::connect(server.address)
        .await
        .expect("a connection");
    let begun = "POST /body HTTP/1.1\r\nhost: localhost\r\nx-request-id: the-request\r\n\
                 content-length: 100\r\nconnection: close\r\n\r\nslow";
    connection.write_all(begun.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    connection
        .read_to_string(&mut answer)
        .await
        .expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("/problems/body-too-slow"), "{answer}");
}

#[tokio::test]
async fn bodies_that_do_not_come_leave_room_for_other_requests_and_clients() {
    let settings = HttpSettings {
        max_concurrent_requests: 8,
        ..HttpSettings::default()
    };
    let server = Server::start(settings).await;
    let post = || server.request(Method::POST, "/body");
    let mut slow = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let body = reqwest::Body::wrap_stream(stream::pending::<Result<Vec<u8>, std::io::Error>>());
        slow.spawn(post().body(body).send());
    }
    eventually("a body that is refused", async || {
        let status = send(post().body("quick")).await.status();
        (status == StatusCode::TOO_MANY_REQUESTS).then_some(())
    })
    .await;
    assert_eq!(server.get("/fine").await.status(), StatusCode::OK);
    let other = Client::builder().local_address(IpAddr::from([127, 0, 0, 2]));
    let other = other.build().expect("a client");
    let request = other.post(format!("http://{}/body", server.address));
    assert_eq!(send(request.body("quick")).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_request_has_a_deadline() {
    let server = Server::start(HttpSettings::default()).await;
    let late = server.get("/never").await;
    assert_eq!(late.headers()[header::RETRY_AFTER], "1");
    insta::assert_json_snapshot!(problem(late).await, @r#"
    {
      "request_id": "the-request",
      "status": 503,
      "title": "Unavailable",
      "type": "/problems/unavailable"
    }
    "#);
}

#[tokio::test]
async fn what_is_too_much_is_refused_at_once_but_for_health() {
    let settings = HttpSettings {
        max_concurrent_requests: 1,
        ..HttpSettings::default()
    };
    let server = Server::start(settings).await;
    let refused = async {
        let begun = Instant::now();
        let refused = loop {
            let response = server.get("/fine").await;
            if response.status() != StatusCode::OK {
                break response;
            }
            assert!(
                begun.elapsed() < Duration::from_mins(1),
                "nothing was refused"
            );
        };
        assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
        insta::assert_json_snapshot!(problem(refused).await, @r#"
        {
          "request_id": "the-request",
          "status": 503,
          "title": "Overloaded",
          "type": "/problems/overloaded"
        }
        "#);
        assert_eq!(server.get("/readyz").await.status(), StatusCode::OK);
        server.held.notify_one();
    };
    let (held, ()) = tokio::join!(server.get("/held"), refused);
    assert_eq!(held.status(), StatusCode::OK);
    let stream = server.get("/stream").await;
    assert_eq!(
        server.get("/fine").await.status(),
        StatusCode::OK,
        "a stream is no load"
    );
    drop(stream);
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_when_to_come_again() {
    let settings = HttpSettings {
        rate_limit: Some(2),
        ..HttpSettings::default()
    };
    let server = Server::start(settings).await;
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.push(server.get("/fine").await);
    }
    let refused = answers.into_iter().find(|it| it.status() != StatusCode::OK);
    let refused = refused.expect("twenty in a row are more than two a second");
    assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
    insta::assert_json_snapshot!(problem(refused).await, @r#"
    {
      "request_id": "the-request",
      "status": 429,
      "title": "Too many requests",
      "type": "/problems/too-many-requests"
    }
    "#);
    assert_eq!(server.get("/livez").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn behind_trusted_proxies_each_client_has_its_own_rate_whatever_it_forges() {
    let settings = HttpSettings {
        rate_limit: Some(1),
        trusted_hops: 1,
        ..HttpSettings::default()
    };
    let server = Server::start(settings).await;
    let ask = |forged: String, client: String| {
        let request = server.request(Method::GET, "/fine");
        let request = request.header("x-forwarded-for", forged);
        send(request.header("x-forwarded-for", client))
    };
    for number in 1..20 {
        let client = format!("192.0.2.{number}");
        let answer = ask("198.51.100.1".to_owned(), client).await;
        assert_eq!(answer.status(), StatusCode::OK, "client {number}");
    }
    for client in [
        |_| "192.0.2.99".to_owned(),
        |number| format!("2001:db8::{number:x}"),
    ] {
        let mut statuses = Vec::new();
        for number in 1..20 {
            let forged = format!("198.51.100.{number}");
            statuses.push(ask(forged, client(number)).await.status());
        }
        assert!(statuses.contains(&StatusCode::TOO_MANY_REQUESTS));
    }
}

#[tokio::test]
async fn rejected_tokens_and_unknown_paths_count_against_the_rate() {
    let settings = HttpSettings {
        rate_limit: Some(2),
        tokens: Some("read reader-reader-reader".into()),
        ..HttpSettings::default()
    };
    let server = Server::start(settings).await;
    for (path, token) in [
        ("/fine", "a-guess-a-guess-a-guess"),
        ("/nowhere", "reader-reader-reader"),
    ] {
        let mut statuses = Vec::new();
        for _ in 0..20 {
            let request = server.request(Method::GET, path).bearer_auth(token);
            statuses.push(send(request).await.status());
        }
        assert!(
            statuses.contains(&StatusCode::TOO_MANY_REQUESTS),
            "{path}: {statuses:?}"
        );
    }
    assert_eq!(server.get("/readyz").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn with_tokens_each_request_needs_one_that_may_do_what_it_asks() {
    let settings = HttpSettings {
        tokens: Some("read reader-reader-reader,write writer-writer-writer".into()),
        ..HttpSettings::default()
    };
    let server = Server::start(settings).await;
    let ask = |method, path, token: &str| {
        send(
            server
                .request(method, path)
                .header(header::AUTHORIZATION, token),
        )
    };
    let anonymous = server.get("/fine").await;
    assert_eq!(anonymous.headers()[header::WWW_AUTHENTICATE], "Bearer");
    insta::assert_json_snapshot!(problem(anonymous).await, @r#"
    {
      "request_id": "the-request",
      "status": 401,
      "title": "Token required",
      "type": "/problems/unauthenticated"
    }
    "#);
    for bad in ["Bearer nobody", "Basic reader-reader-reader", "", "Bearer"] {
        let answer = ask(Method::GET, "/fine", bad).await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{bad}");
    }
    for path in ["/nowhere", "/problems", "/stream"] {
        assert_eq!(
            server.get(path).await.status(),
            StatusCode::UNAUTHORIZED,
            "{path}"
        );
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(server.get(path).await.status(), StatusCode::OK, "{path}");
    }
    let (reader, writer) = ("Bearer reader-reader-reader", "bearer writer-writer-writer");
    assert_eq!(
        ask(Method::GET, "/fine", reader).await.status(),
        StatusCode::OK
    );
    assert_eq!(
        ask(Method::DELETE, "/fine", writer).await.status(),
        StatusCode::OK
    );
    let forbidden = ask(Method::POST, "/fine", reader).await;
    insta::assert_json_snapshot!(problem(forbidden).await, @r#"
    {
      "detail": "this request needs a token of scope write",
      "request_id": "the-request",
      "status": 403,
      "title": "Insufficient scope",
      "type": "/problems/forbidden"
    }
    "#);
}

#[tokio::test]
async fn tokens_come_from_a_file_and_none_at_all_is_a_fault() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "# ours\nread reader-reader-reader\n").expect("written");
    let settings = HttpSettings {
        token_file: Some(file.path().to_owned()),
        ..HttpSettings::default()
    };
    let server = Server::start(settings.clone()).await;
    let request = server
        .request(Method::GET, "/fine")
        .bearer_auth("reader-reader-reader");
    assert_eq!(send(request).await.status(), StatusCode::OK);

    std::fs::write(file.path(), "# none\n").expect("written");
    let listener = http::bind("127.0.0.1:0".parse().expect("an address"))
        .await
        .expect("a port");
    let serving = http::serve(
        listener,
        Routes::default(),
        &API,
        settings,
        CancellationToken::new(),
        Duration::ZERO,
    );
    let error = serving.await.expect_err("no tokens");
    assert!(error.to_string().contains("none is set"), "{error}");
}

#[tokio::test]
async fn answers_tell_browsers_and_caches_what_not_to_do() {
    let server = Server::start(HttpSettings::default()).await;
    let answer = server.get("/fine").await;
    let headers = answer.headers();
    assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(headers[header::CACHE_CONTROL], "private, no-cache");
    assert!(headers.contains_key(header::CONTENT_SECURITY_POLICY));
    assert!(!headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
}

#[tokio::test]
async fn an_odd_request_id_is_replaced() {
    let server = Server::start(HttpSettings::default()).await;
    let long = "x".repeat(129);
    for odd in ["a b", "é", "", &long] {
        let request = server.client.get(format!("http://{}/fine", server.address));
        let answer = send(request.header("x-request-id", odd.as_bytes())).await;
        let id = &answer.headers()["x-request-id"];
        assert_eq!(id.len(), 36, "{odd}: {id:?}");
    }
}

#[tokio::test]
async fn pages_of_named_origins_may_call() {
    let settings = HttpSettings {
        cors_origins: vec!["https://app.example".to_owned()],
        ..HttpSettings::default()
    };
    let server = Server::start(settings).await;
    let ask = |origin: &str| {
        send(
            server
                .request(Method::GET, "/fine")
                .header(header::ORIGIN, origin),
        )
    };
    let named = ask("https://app.example").await;
    assert_eq!(
        named.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN],
        "https://app.example"
    );
    let exposed = named.headers()[header::ACCESS_CONTROL_EXPOSE_HEADERS].to_str();
    assert!(exposed.expect("text").contains("etag"));
    let other = ask("https://evil.example").await;
    assert!(
        !other
            .headers()
            .contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN)
    );
}

#[tokio::test]
async fn large_answers_are_compressed_on_request_and_streams_are_not() {
    let server = Server::start(HttpSettings::default()).await;
    let ask = |path| {
        send(
            server
                .request(Method::GET, path)
                .header(header::ACCEPT_ENCODING, "gzip"),
        )
    };
    let large = ask("/large").await;
    assert_eq!(large.headers()[header::CONTENT_ENCODING], "gzip");
    assert_eq!(large.headers()[header::VARY], "accept-encoding");
    assert!(large.bytes().await.expect("bytes").len() < 1_000);
    for path in ["/fine", "/stream"] {
        assert!(
            !ask(path)
                .await
                .headers()
                .contains_key(header::CONTENT_ENCODING),
            "{path}"
        );
    }
    assert!(
        !server
            .get("/large")
            .await
            .headers()
            .contains_key(header::CONTENT_ENCODING)
    );
}
