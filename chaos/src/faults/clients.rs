//! Clients that are slow, deaf or silent.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    plan::{Fault, Kind},
    stack::Stack,
};

const CLIENTS: usize = 20;
const BYTE_INTERVAL: Duration = Duration::from_millis(50);
const REQUESTS: usize = 100;

pub(super) async fn strike(stack: &Stack, fault: &Fault) -> anyhow::Result<()> {
    let proxy = stack.wires.proxy(fault.target).context("a connection")?;
    let list = match fault.target.contains("users") {
        true => "/users?limit=1000",
        false => "/notifications?limit=1000",
    };
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(client(proxy.address(), fault.kind, list));
    }
    sleep(fault.lasts).await;
    clients.shutdown().await;
    Ok(())
}

/// Until it is told to stop, or cut off.
async fn client(service: SocketAddr, kind: Kind, list: &str) -> std::io::Result<()> {
    let mut connection = TcpStream::connect(service).await?;
    match kind {
        Kind::TrickleClients => {
            let request = "POST /users HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                           content-length: 1000\r\n\r\n{";
            for byte in request.bytes().chain(std::iter::repeat(b' ')) {
                connection.write_all(&[byte]).await?;
                sleep(BYTE_INTERVAL).await;
            }
        }
        Kind::DeafClients => {
            let request = format!("GET {list} HTTP/1.1\r\nhost: localhost\r\n\r\n");
            let requests = request.repeat(REQUESTS);
            // The service takes no more once it can't answer.
            let _ = timeout(
                Duration::from_secs(1),
                connection.write_all(requests.as_bytes()),
            )
            .await;
            std::future::pending::<()>().await;
        }
        _ => std::future::pending::<()>().await,
    }
    Ok(())
}
