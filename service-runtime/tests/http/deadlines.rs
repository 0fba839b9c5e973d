//! Bodies that are too large or too slow, and requests that take too long.

use std::net::IpAddr;

use axum::http::{Method, StatusCode, header};
use futures::stream;
use reqwest::Client;
use service_runtime::http::HttpSettings;
use testkit::eventually;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Server, problem, send};

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
async fn a_client_that_sends_all_before_it_reads_is_told_why_it_was_refused() {
    let server = Server::start(HttpSettings::default()).await;
    let mut connection = TcpStream::connect(server.address)
        .await
        .expect("a connection");
    let body = vec![b' '; 15 * 1024 * 1024];
    let head = format!(
        "POST /nowhere HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).await.expect("sent");
    connection.write_all(&body).await.expect("sent");
    let mut answer = [0; 12];
    let read = connection.read_exact(&mut answer).await;
    read.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 404");
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
