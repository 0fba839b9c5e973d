//! What answers and their headers say.

use axum::http::{Method, StatusCode, header};
use service_runtime::http::HttpSettings;

use crate::support::{Server, problem, send};

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

/// Browsers send such requests without asking first.
#[tokio::test]
async fn without_tokens_a_page_of_another_origin_changes_nothing() {
    let settings = HttpSettings {
        cors_origins: vec!["https://app.example".to_owned()],
        ..HttpSettings::default()
    };
    let server = Server::start(settings).await;
    let ask = |method: Method, origin: &str| {
        let request = server.request(method, "/fine");
        send(request.header(header::ORIGIN, origin))
    };
    let own = format!("http://{}", server.address);
    for method in [Method::POST, Method::DELETE] {
        let refused = ask(method.clone(), "https://evil.example").await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
        assert_eq!(problem(refused).await["type"], "/problems/cross-site");
        for origin in [&own, "https://app.example"] {
            let answer = ask(method.clone(), origin).await;
            assert_eq!(answer.status(), StatusCode::OK, "{origin}");
        }
    }
    let read = ask(Method::GET, "https://evil.example").await;
    assert_eq!(read.status(), StatusCode::OK);
}

/// Browsers ask first, without the token.
#[tokio::test]
async fn a_page_of_a_named_origin_may_send_a_token_and_delete() {
    let settings = HttpSettings {
        cors_origins: vec!["https://app.example".to_owned()],
        tokens: Some("read reader-reader-reader".into()),
        ..HttpSettings::default()
    };
    let server = Server::start(settings).await;
    let ask = |method: &'static str| {
        let request = server.request(Method::OPTIONS, "/fine");
        let request = request
            .header(header::ORIGIN, "https://app.example")
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, method);
        send(request.header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization"))
    };
    for method in ["GET", "POST", "DELETE"] {
        let answer = ask(method).await;
        assert_eq!(answer.status(), StatusCode::OK, "{method}");
        let allowed = |name| answer.headers()[name].to_str().expect("text").to_owned();
        let headers = allowed(header::ACCESS_CONTROL_ALLOW_HEADERS);
        assert!(headers.contains("authorization"), "{headers}");
        let methods = allowed(header::ACCESS_CONTROL_ALLOW_METHODS);
        assert!(methods.contains(method), "{methods}");
    }
}

#[tokio::test]
async fn what_encodings_a_client_refuses_does_not_hide_the_answer() {
    let server = Server::start(HttpSettings::default()).await;
    for encodings in ["x, *;q=0", "identity;q=0", "gzip;q=0", ""] {
        let request = server.request(Method::GET, "/large");
        let answer = send(request.header(header::ACCEPT_ENCODING, encodings)).await;
        assert_eq!(answer.status(), StatusCode::OK, "{encodings}");
        let headers = answer.headers();
        assert!(
            !headers.contains_key(header::CONTENT_ENCODING),
            "{encodings}"
        );
    }
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
