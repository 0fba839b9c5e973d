//! Which headers the client survives. A message that it does not survive, and that is taken for readable,
//! would end each session that it is delivered to.

use std::time::Duration;

use async_nats::ConnectOptions;
use event_consumer::raw_message::headers;
use testkit::{escape::escape, fuzzing};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time,
};

const CHANGED: usize = 100;
/// By then a client that survives has answered, and one that does not has gone away.
const DEADLINE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn the_client_survives_just_the_headers_that_count_as_readable() {
    let mut faults = Vec::new();
    for block in fuzzing::inputs("dead_letter", CHANGED) {
        if block.is_empty() {
            continue;
        }
        let survives = time::timeout(DEADLINE, survives(&block)).await;
        if survives != Ok(headers::parse(&block).is_some()) {
            faults.push(format!("{survives:?}: {}", escape(&block)));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Whether a client answers after it was sent a message with these headers.
async fn survives(block: &[u8]) -> bool {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("nats://{}", listener.local_addr().expect("an address"));
    let connecting = ConnectOptions::new().max_reconnects(1).connect(url);
    let serving = async {
        let (stream, _) = listener.accept().await.expect("a client");
        let mut client = BufReader::new(stream);
        client
            .write_all(b"INFO {\"headers\":true}\r\n")
            .await
            .expect("sent");
        waits_for(&mut client, "PING").await;
        client.write_all(b"PONG\r\n").await.expect("sent");
        client
    };
    let (connected, mut client) = tokio::join!(connecting, serving);
    let connected = connected.expect("a client");
    let _subscription = connected.subscribe("events").await.expect("a subscription");
    let length = block.len();
    let message = format!("HMSG events 1 {length} {length}\r\n");
    let message = [message.as_bytes(), block, b"\r\nPING\r\n"].concat();
    // A client that has given up takes nothing more.
    let sent = client.write_all(&message).await;
    tokio::select! {
        answers = waits_for(&mut client, "PONG") => sent.is_ok() && answers,
        // It connects again before it closes the connection that it has given up.
        _ = listener.accept() => false,
    }
}

/// False if the client goes away first.
async fn waits_for(client: &mut BufReader<TcpStream>, word: &str) -> bool {
    let mut line = String::new();
    loop {
        line.clear();
        match client.read_line(&mut line).await {
            Ok(0) | Err(_) => return false,
            Ok(_) if line.trim() == word => return true,
            Ok(_) => {}
        }
    }
}
