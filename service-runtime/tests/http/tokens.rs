//! Tokens.

use std::time::Duration;

use axum::http::{Method, StatusCode, header};
use service_runtime::http::{self, HttpSettings, Routes};
use tokio_util::sync::CancellationToken;

use crate::support::{API, Server, problem, send};

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
    for path in ["/livez", "/readyz", "/page"] {
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
