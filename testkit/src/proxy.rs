//! A TCP proxy that can be told to cut connections, to hold back what the client says, or to fall
//! silent.

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
    state: watch::Sender<State>,
}

#[derive(Debug, Clone)]
struct State {
    /// Where new connections lead.
    server: String,
    mode: Mode,
    /// Data on connections that were accepted in an earlier generation is swallowed.
    generation: u64,
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
        let (state, watched) = watch::channel(State {
            server,
            mode: Mode::Pass,
            generation: 0,
        });
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let State {
                    server, generation, ..
                } = watched.borrow().clone();
                let state = watched.clone();
                tokio::spawn(Link { generation, state }.connect(client, server));
            }
        });
        Self { address, state }
    }

    /// `host:port`
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn pass(&self) {
        self.set(Mode::Pass);
    }

    pub fn hold_client(&self) {
        self.set(Mode::HoldClient);
    }

    pub fn cut(&self) {
        self.set(Mode::Cut);
    }

    /// From now on swallows everything on the connections that exist, in both directions and
    /// without closing them, as when a host is lost or a firewall forgets them. New connections
    /// work.
    pub fn black_hole(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }

    /// New connections lead to another server.
    pub fn redirect(&self, server: String) {
        self.state.send_modify(|state| state.server = server);
    }

    fn set(&self, mode: Mode) {
        self.state.send_modify(|state| state.mode = mode);
    }
}

/// One connection through the proxy.
#[derive(Debug, Clone)]
struct Link {
    generation: u64,
    state: watch::Receiver<State>,
}

impl Link {
    async fn connect(mut self, client: TcpStream, server: String) {
        let Ok(server) = TcpStream::connect(server).await else {
            return;
        };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let may_pass = |mode| mode == Mode::Pass;
        // Whichever ends first closes both directions.
        tokio::select! {
            _ = self.clone().copy(from_client, to_server, may_pass) => {}
            _ = self.clone().copy(from_server, to_client, |_| true) => {}
            _ = self.state.wait_for(|state| state.mode == Mode::Cut) => {}
        }
    }

    async fn copy(
        mut self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        may_pass: impl Fn(Mode) -> bool,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from.read(&mut buffer).await;
            if self.is_swallowed() {
                match read {
                    Ok(1..) => continue,
                    // The other end does not learn that this one is closed.
                    Ok(0) | Err(_) => std::future::pending().await,
                }
            }
            let length = read?;
            if length == 0 {
                return Ok(());
            }
            let generation = self.generation;
            let decided = self
                .state
                .wait_for(|state| state.generation != generation || may_pass(state.mode));
            if decided.await.is_err() {
                return Ok(());
            }
            if !self.is_swallowed() {
                to.write_all(&buffer[..length]).await?;
            }
        }
    }

    fn is_swallowed(&self) -> bool {
        self.state.borrow().generation != self.generation
    }
}
