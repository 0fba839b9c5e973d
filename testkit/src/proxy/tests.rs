use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::Proxy;

/// A server that says back whatever it is told, behind a proxy, and a client of it.
async fn echo() -> (Proxy, TcpStream) {
    let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = server.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((connection, _)) = server.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = connection.into_split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    let proxy = Proxy::start(address.to_string()).await;
    let client = TcpStream::connect(proxy.address()).await;
    (proxy, client.expect("a connection"))
}

async fn send(client: &mut TcpStream, text: &str) {
    client.write_all(text.as_bytes()).await.expect("sent");
}

async fn answer(client: &mut TcpStream, length: usize) -> String {
    let mut answer = vec![0; length];
    client.read_exact(&mut answer).await.expect("an answer");
    String::from_utf8(answer).expect("UTF-8")
}

#[tokio::test]
async fn what_is_held_comes_when_it_may_pass_and_not_before() {
    let holds: [fn(&Proxy); 3] = [Proxy::hold_client, Proxy::hold_server, Proxy::hold_both];
    for hold in holds {
        let (proxy, mut client) = echo().await;
        send(&mut client, "before").await;
        assert_eq!(answer(&mut client, 6).await, "before");
        hold(&proxy);
        send(&mut client, "held").await;
        // A connection that is not held comes and goes meanwhile, so there was time to answer.
        let (_other, mut other_client) = echo().await;
        send(&mut other_client, "other").await;
        answer(&mut other_client, 5).await;
        let mut byte = [0];
        assert!(client.try_read(&mut byte).is_err(), "nothing is there yet");
        proxy.pass();
        assert_eq!(answer(&mut client, 4).await, "held");
    }
}

#[tokio::test]
async fn slow_connections_change_nothing_of_what_is_said() {
    let slow: [fn(&Proxy); 2] = [
        |proxy| proxy.delay(Duration::from_millis(5)),
        |proxy| proxy.throttle(100_000),
    ];
    let text = "0123456789".repeat(2_000);
    for slow_down in slow {
        let (proxy, mut client) = echo().await;
        slow_down(&proxy);
        send(&mut client, &text).await;
        assert_eq!(answer(&mut client, text.len()).await, text);
    }
}

#[tokio::test]
async fn a_reset_closes_what_was_swallowed_and_lets_new_connections_pass() {
    let (proxy, mut client) = echo().await;
    send(&mut client, "before").await;
    answer(&mut client, 6).await;
    proxy.black_hole();
    send(&mut client, "swallowed").await;
    proxy.reset();
    let mut rest = Vec::new();
    // Closed in good order or not, it ends, and without an answer.
    let _ = client.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
    let mut client = TcpStream::connect(proxy.address())
        .await
        .expect("a connection");
    send(&mut client, "after").await;
    assert_eq!(answer(&mut client, 5).await, "after");
}
