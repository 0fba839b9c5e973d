//! Accepting connections, and serving each within its limits.

use std::{collections::VecDeque, io, net::SocketAddr, pin::pin, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{self, Instant},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{
    ClientAddress, ClientPermit, HttpSettings, PerClientLimit,
    connection_settings::HEALTH_CONNECTIONS, write_deadline::WriteDeadline,
};
use crate::metrics::{CONNECTIONS, Held};

/// What hyper buffers of a connection in each direction, and so the largest head of a request.
const BUFFER_BYTES: usize = 32 * 1024;
/// What the kernel buffers of the answers on a connection; it doubles the figure for itself.
const SEND_BUFFER_BYTES: usize = 128 * 1024;
/// How long a connection above the limit may take altogether.
const HEALTH_DEADLINE: Duration = Duration::from_secs(2);
/// A peer that is gone without a word is noticed after a minute and three more of these.
const KEEPALIVE_TIME: Duration = Duration::from_mins(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// After an error that concerns the process, such as too many open files.
const ACCEPT_RETRY: Duration = Duration::from_millis(200);
/// How often it is logged at most that connections are above the limit.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

pub(super) struct Server {
    api: Router,
    /// For connections above the limit.
    health_only: Router,
    connections: PerClientLimit,
    write_timeout: Duration,
    http: http1::Builder,
    tasks: JoinSet<()>,
    /// The tasks of connections above the limit, the oldest first.
    above_limit: VecDeque<AbortHandle>,
    refused: Refused,
    open: metrics::Gauge,
    shutdown: CancellationToken,
}

/// Connections above the limit that were not logged yet.
#[derive(Default)]
struct Refused {
    count: u64,
    logged_at: Option<Instant>,
}

impl Server {
    /// # Errors
    /// If the limit of connections does not fit into that of open files.
    pub(super) fn new(
        api: Router,
        health_only: Router,
        settings: &HttpSettings,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Self> {
        let limits = &settings.connections;
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_buf_size(BUFFER_BYTES);
        Ok(Self {
            api: api.with_state(()),
            health_only: health_only.with_state(()),
            connections: limits.connections(settings.trusted_hops > 0)?,
            write_timeout: limits.write_timeout,
            http,
            tasks: JoinSet::new(),
            above_limit: VecDeque::new(),
            refused: Refused::default(),
            open: CONNECTIONS.with([]),
            shutdown,
        })
    }

    /// Serves until shutdown, then finishes the requests in hand for at most `grace`.
    pub(super) async fn run(mut self, listener: TcpListener, grace: Duration) {
        let shutdown = self.shutdown.clone();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = self.tasks.join_next() => {}
                (stream, peer) = accept(&listener) => self.start(stream, peer),
            }
        }
        drop(listener);
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        if time::timeout(grace, all_ended).await.is_err() {
            tracing::warn!(
                connections = self.tasks.len(),
                grace_ms = grace.as_millis(),
                "cut connections that were still open"
            );
            self.tasks.shutdown().await;
        }
    }

    fn start(&mut self, stream: TcpStream, peer: SocketAddr) {
        if let Err(error) = prepare(&stream) {
            tracing::debug!(%error, "an accepted connection is gone");
            return;
        }
        let io = WriteDeadline::new(stream, self.write_timeout);
        let shutdown = self.shutdown.clone();
        match self.connections.try_acquire(ClientAddress::of(peer.ip())) {
            Ok(permit) => {
                let (http, api) = (self.http.clone(), self.api.clone());
                let held = (permit, Held::new(&self.open));
                self.tasks
                    .spawn(serve(http, api, io, peer, shutdown, Some(held)));
            }
            Err(reached) => {
                self.refused.note(&reached);
                let mut http = self.http.clone();
                http.keep_alive(false);
                let serving = serve(http, self.health_only.clone(), io, peer, shutdown, None);
                let task = self.tasks.spawn(async {
                    // A client that takes longer does not ask for its health.
                    let _ = time::timeout(HEALTH_DEADLINE, serving).await;
                });
                self.make_room();
                self.above_limit.push_back(task);
            }
        }
    }

    /// The oldest go first: a health check sends its request at once, and needs no time.
    fn make_room(&mut self) {
        self.above_limit.retain(|task| !task.is_finished());
        while self.above_limit.len() >= HEALTH_CONNECTIONS {
            if let Some(oldest) = self.above_limit.pop_front() {
                oldest.abort();
            }
        }
    }
}

/// Serves one connection until it ends; from shutdown on, until its present request is answered.
async fn serve(
    http: http1::Builder,
    routes: Router,
    io: WriteDeadline,
    peer: SocketAddr,
    shutdown: CancellationToken,
    _held: Option<(ClientPermit, Held)>,
) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request: Request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        let routes = routes.clone();
        async { routes.oneshot(request).await }
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(io), service));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// The next connection. Errors that concern the process are logged and waited out.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted; trying again");
                time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    // Answers are small and wait for nothing that follows them.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_TIME)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)
}

impl Refused {
    /// Logged at once, then no more often than the interval.
    fn note(&mut self, reached: &super::LimitReached) {
        self.count += 1;
        let is_recent = |at: Instant| at.elapsed() < LOG_INTERVAL;
        if self.logged_at.is_some_and(is_recent) {
            return;
        }
        tracing::warn!(
            connections = self.count,
            %reached,
            "connections above the limit are served health checks only"
        );
        *self = Self {
            count: 0,
            logged_at: Some(Instant::now()),
        };
    }
}
