//! Limits of connections: clients that send slowly, do not read, or are too many.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, routing::get};
use futures::{StreamExt, stream};
use reqwest::{Client, StatusCode};
use service_runtime::{
    health,
    http::{ConnectionSettings, HttpSettings, Routes},
};
use testkit::eventually;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time,
};

use crate::support::Server;

const MEGABYTE: usize = 1_000_000;
const SHORT: Duration = Duration::from_millis(300);
const REQUEST: &[u8] = b"GET /fine HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// A server of large and endless answers.
struct Source {
    server: Server,
    /// Large answers that were made.
    made: Arc<AtomicUsize>,
    /// Endless answers that somebody still gets.
    streams: Arc<()>,
}

impl Source {
    async fn start(connections: ConnectionSettings) -> Self {
        let (made, streams) = (Arc::new(AtomicUsize::new(0)), Arc::new(()));
        let (count, open) = (Arc::clone(&made), Arc::clone(&streams));
        let large = async move || {
            count.fetch_add(1, Ordering::Relaxed);
            "0123456789".repeat(4 * MEGABYTE / 10)
        };
        let endless = async move || {
            let drops = stream::repeat_with(move || {
                let _is_open = &open;
                Ok::<_, std::io::Error>("drop\n".repeat(1_000))
            });
            Body::from_stream(drops)
        };
        let routes = Routes {
            bounded: Router::new()
                .route("/fine", get(async || "fine"))
                .route("/large", get(large))
                .into(),
            streaming: Router::new().route("/endless", get(endless)).into(),
            health: health::router(vec![]),
            ..Routes::default()
        };
        let settings = HttpSettings {
            connections,
            ..HttpSettings::default()
        };
        Self {
            server: Server::with(routes, settings).await,
            made,
            streams,
        }
    }

    async fn connect(&self) -> TcpStream {
        self.connect_from(1).await
    }

    /// From 127.0.0.`host`.
    async fn connect_from(&self, host: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket
            .bind(SocketAddr::new(loopback(host), 0))
            .expect("a port");
        socket
            .connect(self.server.address)
            .await
            .expect("a connection")
    }

    /// The status of an answer over a new connection from 127.0.0.`host`.
    async fn status(&self, host: u8, path: &str) -> StatusCode {
        let client = Client::builder().local_address(loopback(host)).build();
        let request = client.expect("a client").get(self.server.to(path));
        request.send().await.expect("an answer").status()
    }

    async fn eventually_answers(&self, host: u8, path: &str) {
        eventually("an answer", async || {
            (self.status(host, path).await == StatusCode::OK).then_some(())
        })
        .await;
    }

    async fn streams_have_ended(&self) {
        eventually("the end of the endless answers", async || {
            // One is the server's own, one the test's.
            (Arc::strong_count(&self.streams) <= 2).then_some(())
        })
        .await;
    }
}

fn loopback(host: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, host).into()
}

fn short_timeouts() -> ConnectionSettings {
    ConnectionSettings {
        header_timeout: SHORT,
        write_timeout: SHORT,
        ..ConnectionSettings::default()
    }
}

/// Waits for the server to close the connection; what it sent until then.
async fn read_to_end(mut connection: TcpStream) -> String {
    let mut received = Vec::new();
    // A reset is an end as well.
    let _ = connection.read_to_end(&mut received).await;
    String::from_utf8_lossy(&received).into_owned()
}

async fn send(connection: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    connection
        .write_all(request.as_bytes())
        .await
        .expect("sent");
}

#[tokio::test]
async fn a_connection_that_sends_nothing_or_half_a_head_is_closed() {
    let source = Source::start(short_timeouts()).await;
    let silent = source.connect().await;
    let mut half = source.connect().await;
    half.write_all(b"GET /fine HT").await.expect("sent");
    let mut idle = source.connect().await;
    idle.write_all(REQUEST).await.expect("sent");
    let (silent, half, idle) =
        tokio::join!(read_to_end(silent), read_to_end(half), read_to_end(idle));
    assert!(silent.is_empty(), "{silent}");
    assert!(!half.contains(" 200 "), "{half}");
    assert!(idle.starts_with("HTTP/1.1 200 "), "{idle}");
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_not_waited_for() {
    let source = Source::start(short_timeouts()).await;
    let mut connection = source.connect().await;
    connection
        .write_all(b"GET /fine HTTP/1.1\r\nx: ")
        .await
        .expect("sent");
    eventually("the end of the connection", async || {
        connection.write_all(b"y").await.err()
    })
    .await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut() {
    let source = Source::start(short_timeouts()).await;
    let mut connection = source.connect().await;
    send(&mut connection, "/endless").await;
    eventually("the beginning of the answer", async || {
        (Arc::strong_count(&source.streams) > 2).then_some(())
    })
    .await;
    source.streams_have_ended().await;
}

#[tokio::test]
async fn a_client_that_reads_a_byte_now_and_then_is_cut() {
    let source = Source::start(short_timeouts()).await;
    let mut connection = source.connect().await;
    send(&mut connection, "/endless").await;
    let mut byte = [0];
    connection.read_exact(&mut byte).await.expect("an answer");
    let reading = async {
        while connection.read_exact(&mut byte).await.is_ok() {
            time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = reading => {}
        () = source.streams_have_ended() => {}
    }
}

#[tokio::test]
async fn answers_to_pipelined_requests_that_nobody_reads_are_not_made() {
    let source = Source::start(ConnectionSettings {
        write_timeout: SHORT,
        ..ConnectionSettings::default()
    })
    .await;
    let mut connection = source.connect().await;
    let requests = b"GET /large HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(100);
    eventually("the end of the connection", async || {
        connection.write_all(&requests).await.err()
    })
    .await;
    let made = source.made.load(Ordering::Relaxed);
    assert!((1..=2).contains(&made), "{made} answers of 4 MB");
}

#[tokio::test]
async fn answers_that_are_not_read_are_bounded_in_bytes() {
    let source = Source::start(ConnectionSettings {
        max_unread_bytes: 20 * MEGABYTE as u64,
        ..ConnectionSettings::default()
    })
    .await;
    let mut unread = Vec::new();
    for host in 1..=5 {
        let mut connection = source.connect_from(host).await;
        send(&mut connection, "/large").await;
        connection.readable().await.expect("an answer");
        unread.push(connection);
        if host == 1 {
            let more = source.status(1, "/large").await;
            assert_eq!(more, StatusCode::TOO_MANY_REQUESTS);
        }
    }
    let another = source.status(6, "/large").await;
    assert_eq!(another, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(source.status(6, "/fine").await, StatusCode::OK);
    drop(unread);
    source.eventually_answers(1, "/large").await;
    source.eventually_answers(6, "/large").await;
}

#[tokio::test]
async fn above_the_limit_of_connections_health_checks_are_answered() {
    let source = Source::start(ConnectionSettings {
        max_connections: Some(3),
        max_connections_per_peer: Some(3),
        ..ConnectionSettings::default()
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut connection = source.connect().await;
        connection.write_all(REQUEST).await.expect("sent");
        connection.readable().await.expect("an answer");
        held.push(connection);
    }
    let overloaded = source.status(1, "/fine").await;
    assert_eq!(overloaded, StatusCode::SERVICE_UNAVAILABLE);
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(source.connect().await);
    }
    for path in ["/livez", "/readyz"] {
        assert_eq!(source.status(1, path).await, StatusCode::OK, "{path}");
    }
    let oldest = read_to_end(silent.remove(0));
    assert_eq!(oldest.await, "", "it made room");
    drop(held);
    source.eventually_answers(1, "/fine").await;
}

#[tokio::test]
async fn connections_of_one_peer_leave_room_for_others() {
    let source = Source::start(ConnectionSettings {
        max_connections: Some(10),
        max_connections_per_peer: Some(2),
        ..ConnectionSettings::default()
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut connection = source.connect_from(2).await;
        connection.write_all(REQUEST).await.expect("sent");
        connection.readable().await.expect("an answer");
        held.push(connection);
    }
    let refused = source.status(2, "/fine").await;
    assert_eq!(refused, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(source.status(2, "/livez").await, StatusCode::OK);
    assert_eq!(source.status(1, "/fine").await, StatusCode::OK);
}

#[tokio::test]
async fn a_limit_of_connections_that_does_not_fit_is_an_error() {
    let settings = HttpSettings {
        connections: ConnectionSettings {
            max_connections: Some(u64::MAX),
            ..ConnectionSettings::default()
        },
        ..HttpSettings::default()
    };
    let mut server = Server::with(Routes::default(), settings).await;
    let ended = (&mut server.serving).await.expect("no panic");
    let error = ended.expect_err("so many files may not be open");
    assert!(error.to_string().contains("MAX_CONNECTIONS"), "{error}");
}

#[tokio::test]
async fn shutdown_closes_idle_connections_and_cuts_endless_answers_after_the_grace() {
    let mut source = Source::start(ConnectionSettings::default()).await;
    let mut idle = source.connect().await;
    idle.write_all(REQUEST).await.expect("sent");
    let reader = Client::new().get(source.server.to("/endless"));
    let answer = reader.send().await.expect("an answer");
    let mut drops = answer.bytes_stream();
    drops.next().await.expect("it has begun").expect("a drop");
    source.server.shutdown.cancel();
    let idle = read_to_end(idle).await;
    assert!(idle.starts_with("HTTP/1.1 200 "), "{idle}");
    let is_cut = drops.any(|drop| std::future::ready(drop.is_err())).await;
    assert!(is_cut, "an endless answer has no regular end");
    let ended = (&mut source.server.serving).await.expect("no panic");
    ended.expect("an orderly end");
}
