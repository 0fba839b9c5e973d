//! A TCP proxy that can be told to cut connections, to hold back what one side says or both, to be slow,
//! or to fall silent.

#[cfg(test)]
mod tests;

use std::{io, net::SocketAddr, time::Duration};

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
    /// Connections that were accepted before the last reset are closed.
    resets: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    /// What this side says waits; what the other says passes.
    Hold(Side),
    /// What both sides say waits.
    HoldBoth,
    /// Everything is passed on so much later.
    Delay(Duration),
    /// At most so many bytes a second in each direction.
    Throttle(usize),
    /// Connections are closed, and new ones as soon as they come.
    Cut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

impl Mode {
    fn passes(self, from: Side) -> bool {
        match self {
            Self::Hold(side) => side != from,
            Self::HoldBoth | Self::Cut => false,
            Self::Pass | Self::Delay(_) | Self::Throttle(_) => true,
        }
    }

    /// How much is passed on at once, and how long before.
    fn pace(self) -> (usize, Duration) {
        const PARTS_PER_SECOND: usize = 10;
        match self {
            Self::Delay(delay) => (usize::MAX, delay),
            Self::Throttle(rate) => {
                let part = (rate / PARTS_PER_SECOND).max(1);
                (
                    part,
                    Duration::from_secs(1).mul_f64(part as f64 / rate.max(1) as f64),
                )
            }
            _ => (usize::MAX, Duration::ZERO),
        }
    }
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
            resets: 0,
        });
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let accepted = watched.borrow().clone();
                let state = watched.clone();
                tokio::spawn(Link { accepted, state }.connect(client));
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
        self.set(Mode::Hold(Side::Client));
    }

    pub fn hold_server(&self) {
        self.set(Mode::Hold(Side::Server));
    }

    /// Connections are accepted, and nothing passes.
    pub fn hold_both(&self) {
        self.set(Mode::HoldBoth);
    }

    /// Whatever is sent arrives so much later, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.set(Mode::Delay(delay));
    }

    pub fn throttle(&self, bytes_per_second: usize) {
        self.set(Mode::Throttle(bytes_per_second));
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

    /// Closes all connections, also those that were swallowed, and passes on what comes on new ones.
    pub fn reset(&self) {
        self.state.send_modify(|state| {
            state.mode = Mode::Pass;
            state.resets += 1;
        });
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
    /// The state in which it was accepted.
    accepted: State,
    state: watch::Receiver<State>,
}

impl Link {
    async fn connect(mut self, client: TcpStream) {
        let Ok(server) = TcpStream::connect(&self.accepted.server).await else {
            return;
        };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let resets = self.accepted.resets;
        // Whichever ends first closes both directions.
        tokio::select! {
            _ = self.clone().copy(Side::Client, from_client, to_server) => {}
            _ = self.clone().copy(Side::Server, from_server, to_client) => {}
            _ = self.state.wait_for(|it| it.mode == Mode::Cut || it.resets != resets) => {}
        }
    }

    async fn copy(
        mut self,
        side: Side,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
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
            let mut left = &buffer[..read?];
            if left.is_empty() {
                return Ok(());
            }
            while !left.is_empty() {
                let Some(part) = self.next_part(side).await else {
                    return Ok(());
                };
                let (part, rest) = left.split_at(left.len().min(part));
                left = rest;
                if !self.is_swallowed() {
                    to.write_all(part).await?;
                }
            }
        }
    }

    /// Waits until something may be passed on; how much at most. `None` once the proxy is gone.
    async fn next_part(&mut self, side: Side) -> Option<usize> {
        let generation = self.accepted.generation;
        let decided = self
            .state
            .wait_for(|state| state.generation != generation || state.mode.passes(side));
        let (part, pause) = decided.await.ok()?.mode.pace();
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        Some(part)
    }

    fn is_swallowed(&self) -> bool {
        self.state.borrow().generation != self.accepted.generation
    }
}
