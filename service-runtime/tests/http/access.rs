//! Who may send requests: tokens, their scopes, and the names of hosts.

use std::{
    fs,
    io::{self, Write},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use reqwest::{Method, StatusCode, header};
use service_runtime::{
    health,
    http::{self, HttpSettings, Routes},
};
use testkit::eventually;
use tracing::subscriber::DefaultGuard;
use utoipa_axum::routes;

use crate::support::{Server, routes, send};

const READER: &str = "reader-reader-reader";
const WRITER: &str = "writer-writer-writer";
const REPAIRER: &str = "repairer-repairer";
const TOKENS: &str =
    "read reader-reader-reader,write writer-writer-writer,repair repairer-repairer";

#[utoipa::path(post, path = "/repair/{id}", security((), ("token" = ["repair"])), responses((status = 200)))]
async fn repair() {}

async fn serve(settings: HttpSettings) -> Server {
    let mut routes = routes();
    routes.bounded = routes.bounded.routes(routes!(repair));
    Server::with(routes, settings).await
}

impl Server {
    async fn status(&self, method: Method, path: &str, token: &str) -> StatusCode {
        let request = self.request(method, path).bearer_auth(token);
        send(request).await.status()
    }
}

/// What this thread logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn capture() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        let bytes = self.0.lock().expect("no writer panics").clone();
        String::from_utf8(bytes).expect("text")
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no writer panics").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn with_tokens() -> HttpSettings {
    HttpSettings {
        tokens: Some(TOKENS.into()),
        ..HttpSettings::default()
    }
}

#[tokio::test]
async fn a_write_token_does_not_suffice_for_repairs_nor_a_repair_token_for_writes() {
    let server = serve(with_tokens()).await;
    for (token, write, repair) in [
        (READER, StatusCode::FORBIDDEN, StatusCode::FORBIDDEN),
        (WRITER, StatusCode::OK, StatusCode::FORBIDDEN),
        (REPAIRER, StatusCode::FORBIDDEN, StatusCode::OK),
    ] {
        let status = async |method, path| server.status(method, path, token).await;
        assert_eq!(
            status(Method::GET, "/fine").await,
            StatusCode::OK,
            "{token}"
        );
        assert_eq!(status(Method::POST, "/fine").await, write, "{token}");
        assert_eq!(status(Method::POST, "/repair/1").await, repair, "{token}");
    }
}

#[tokio::test]
async fn rejected_requests_are_logged_without_the_token_and_at_a_bounded_rate() {
    let (log, _guard) = Log::capture();
    let server = serve(with_tokens()).await;
    let guess = "a-guess-a-guess-a-guess";
    for _ in 0..50 {
        assert_eq!(
            server.status(Method::GET, "/fine", guess).await,
            StatusCode::UNAUTHORIZED
        );
    }
    server.status(Method::POST, "/fine", READER).await;
    let text = eventually("the sum of the rejections", async || {
        let text = log.text();
        text.contains("rejected more requests").then_some(text)
    })
    .await;
    let line = text.lines().find(|line| line.contains("unknown token"));
    let line = line.expect("a line for the first rejection");
    assert!(line.contains("client=127.0.0.1"), "{line}");
    assert!(text.contains("insufficient scope"), "{text}");
    assert!(!text.contains(guess) && !text.contains(READER), "{text}");
    assert!(text.matches("unknown token").count() < 10, "{text}");
}

#[tokio::test]
async fn tokens_are_replaced_when_their_file_changes_and_kept_if_it_is_broken() {
    let (log, _guard) = Log::capture();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let (former, latter) = ("former-former-former", "latter-latter-latter");
    fs::write(file.path(), format!("read {former}\n")).expect("written");
    let server = serve(HttpSettings {
        token_file: Some(file.path().to_owned()),
        ..with_tokens()
    })
    .await;
    let status = async |token| server.status(Method::GET, "/fine", token).await;
    assert_eq!(status(former).await, StatusCode::OK);

    for broken in ["read too-short", "latter-latter-latter", "\u{fffd}"] {
        let failures = log.text().matches("could not reload").count();
        fs::write(file.path(), broken).expect("written");
        eventually("a complaint", async || {
            (log.text().matches("could not reload").count() > failures).then_some(())
        })
        .await;
        assert_eq!(status(former).await, StatusCode::OK, "{broken}");
    }
    fs::remove_file(file.path()).expect("removed");
    eventually("a complaint", async || {
        log.text().contains("reading tokens from").then_some(())
    })
    .await;
    assert_eq!(status(former).await, StatusCode::OK);

    // As it is replaced in one step, it is another file.
    let replacement = file.path().with_extension("new");
    fs::write(&replacement, format!("read {latter}\n")).expect("written");
    fs::rename(&replacement, file.path()).expect("renamed");
    eventually("the new token", async || {
        (status(latter).await == StatusCode::OK).then_some(())
    })
    .await;
    assert_eq!(status(former).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(READER).await, StatusCode::OK, "not from the file");
    assert!(!log.text().contains("latter-latter"), "{}", log.text());
}

#[tokio::test]
async fn a_web_page_can_not_reach_an_open_service_by_a_name_of_its_own() {
    let server = serve(HttpSettings::default()).await;
    let status = async |path: &str, host: &str| {
        let request = server.request(Method::GET, path).header(header::HOST, host);
        send(request).await.status()
    };
    let port = server.address.port();
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        let host = format!("{host}:{port}");
        assert_eq!(status("/fine", &host).await, StatusCode::OK, "{host}");
    }
    let rebound = format!("evil.example:{port}");
    for path in ["/fine", "/nowhere", "/openapi.json"] {
        let status = status(path, &rebound).await;
        assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{path}");
    }
    assert_eq!(status("/livez", &rebound).await, StatusCode::OK);
}

#[tokio::test]
async fn any_page_may_call_if_so_set() {
    let server = serve(HttpSettings {
        cors_origins: vec!["*".to_owned()],
        ..HttpSettings::default()
    })
    .await;
    let request = server.request(Method::GET, "/fine");
    let answer = send(request.header(header::ORIGIN, "https://app.example")).await;
    assert_eq!(answer.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
}

#[tokio::test]
async fn a_service_is_probed_at_the_address_that_it_listens_on() {
    // Containers often have no IPv6.
    let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    let ipv6 = ["[::1]:0", "[::]:0"].into_iter().filter(|_| has_ipv6);
    for listens_on in ["127.0.0.2:0", "0.0.0.0:0"].into_iter().chain(ipv6) {
        let mut setting: SocketAddr = listens_on.parse().expect("an address");
        let listener = http::bind(setting).await.expect("a free port");
        setting.set_port(listener.local_addr().expect("an address").port());
        let routes = Routes {
            health: health::router(vec![]),
            ..Routes::default()
        };
        let _server = Server::at(listener, routes, HttpSettings::default());
        health::probe(setting).await.expect(listens_on);
    }
}

#[tokio::test]
async fn a_page_can_ask_what_its_token_may_do() {
    let granted = async |server: &Server, token: &str| {
        let request = server.request(Method::GET, "/access").bearer_auth(token);
        let answer: serde_json::Value = send(request).await.json().await.expect("JSON");
        ["read", "write", "repair"].map(|scope| answer[scope] == true)
    };
    let server = serve(with_tokens()).await;
    assert_eq!(granted(&server, READER).await, [true, false, false]);
    assert_eq!(granted(&server, WRITER).await, [true, true, false]);
    assert_eq!(granted(&server, REPAIRER).await, [true, false, true]);
    let unknown = server.status(Method::GET, "/access", "nobody-nobody-nobody");
    assert_eq!(unknown.await, StatusCode::UNAUTHORIZED);

    let open = serve(HttpSettings::default()).await;
    assert_eq!(granted(&open, "").await, [true; 3]);
}
