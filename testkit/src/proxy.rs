//! A TCP proxy that can be told to cut connections, or to hold back what the client says.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Stands in front of a server.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    /// What the server says passes; what the client says waits.
    HoldClient,
    /// Connections are closed, and new ones as soon as they come.
    Cut,
}

impl Proxy {
    /// Passes everything on to `server` until told otherwise.
    ///
    /// # Panics
    /// If no port can be had.
    pub async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (mode, watched) = watch::channel(Mode::Pass);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connect(client, server.clone(), watched.clone()));
            }
        });
        Self { address, mode }
    }

    /// `host:port`
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn pass(&self) {
        self.mode.send_replace(Mode::Pass);
    }

    pub fn hold_client(&self) {
        self.mode.send_replace(Mode::HoldClient);
    }

    pub fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }
}

async fn connect(client: TcpStream, server: String, mut mode: watch::Receiver<Mode>) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let may_pass = |mode: &Mode| *mode == Mode::Pass;
    // Whichever ends first closes both directions.
    tokio::select! {
        _ = copy(from_client, to_server, mode.clone(), may_pass) => {}
        _ = copy(from_server, to_client, mode.clone(), |_| true) => {}
        _ = mode.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut mode: watch::Receiver<Mode>,
    may_pass: impl Fn(&Mode) -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        if mode.wait_for(&may_pass).await.is_err() {
            return Ok(());
        }
        to.write_all(&buffer[..length]).await?;
    }
}
