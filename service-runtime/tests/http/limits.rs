//! Limits on requests at once and on requests per second.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    http::{Method, StatusCode, header},
    routing::get,
};
use service_runtime::http::HttpSettings;
use tokio::sync::Notify;

use crate::support::{Server, problem, routes, send};

#[tokio::test]
async fn what_is_too_much_is_refused_at_once_but_for_health() {
    let settings = HttpSettings {
        max_concurrent_requests: 1,
        ..HttpSettings::default()
    };
    let held = Arc::new(Notify::new());
    let hold = Arc::clone(&held);
    let mut routes = routes();
    routes.bounded = (routes.bounded).route("/held", get(async move || hold.notified().await));
    let server = Server::with(routes, settings).await;
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
        held.notify_one();
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
async fn pages_without_data_count_against_the_rate() {
    let settings = HttpSettings {
        rate_limit: Some(2),
        ..HttpSettings::default()
    };
    let server = Server::start(settings).await;
    let mut statuses = Vec::new();
    for _ in 0..20 {
        statuses.push(server.get("/page").await.status());
    }
    assert!(
        statuses.contains(&StatusCode::TOO_MANY_REQUESTS),
        "{statuses:?}"
    );
}
