//! Serves HTTP: listens, accepts connections within the limits ([`super::slots`]), and shuts down
//! in order. [`super::connection`] serves one connection.

use super::progress::Progress;
use super::protection::Protection;
use super::slots::{Grant, Slots};
use super::transport::Listener;
use super::{StartupGate, connection, limits};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use storage::metrics::{Counter, Metrics};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long the server waits for clients.
#[derive(Copy, Clone, Debug)]
pub struct Timeouts {
    /// For the headers of a request, from their first byte, and for the first request of a
    /// connection.
    pub headers: Duration,
    /// `--web.read-timeout`: for the body of a request, and between two requests.
    pub read: Duration,
    /// For a client to read a byte of its answer.
    pub stall: Duration,
    /// For running requests when the server stops.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            headers: limits::HEADERS_TIMEOUT,
            read: limits::READ_TIMEOUT,
            stall: limits::WRITE_STALL,
            drain: limits::DRAIN,
        }
    }
}

/// The settings of connections, from the command line.
#[derive(Clone)]
pub struct ServeOptions {
    /// `--web.max-connections`.
    pub max_connections: usize,
    /// `--web.max-connections-per-address`; 0: three quarters of all.
    pub max_by_address: usize,
    /// How long the server waits for clients.
    pub timeouts: Timeouts,
    /// `--web.config.file`; `None`: connections are plain, and everybody may ask.
    pub protection: Option<Arc<Protection>>,
}

/// The address of the client of a request.
#[derive(Copy, Clone, Debug)]
pub struct ClientAddress(pub SocketAddr);

/// What all connections share.
pub struct Http {
    pub(super) gate: Arc<StartupGate>,
    pub(super) slots: Arc<Slots>,
    pub(super) timeouts: Timeouts,
    pub(super) protection: Option<Arc<Protection>>,
    max_by_address: usize,
    max_connections: usize,
    refused: Arc<Counter>,
    accept_errors: Arc<Counter>,
}

impl Http {
    fn new(gate: Arc<StartupGate>, options: ServeOptions, metrics: &Metrics) -> Http {
        let max_connections = options.max_connections.max(1);
        let max_by_address = match options.max_by_address {
            // A quarter is left for others, whatever one address does.
            0 => max_connections - max_connections / 4,
            given => given,
        };
        Http {
            gate,
            slots: Slots::new(max_connections, max_by_address, metrics),
            timeouts: options.timeouts,
            protection: options.protection,
            max_by_address,
            max_connections,
            refused: metrics.counter(
                "perennial_http_connections_refused_total",
                "HTTP requests that were answered with 503 because too many connections were open.",
                &[],
            ),
            accept_errors: metrics.counter(
                "perennial_http_accept_errors_total",
                "Connections that could not be accepted, as when the process has too many open files.",
                &[],
            ),
        }
    }

    /// Why a request for `path` is rejected on a connection with this grant; `None`: it is
    /// answered.
    pub(super) fn refusal(&self, grant: Grant, path: &str) -> Option<String> {
        if grant == Grant::All || limits::RESERVE_PATHS.contains(&self.gate.local_path(path)) {
            return None;
        }
        // Counted by request, not by connection: a connection of the reserve may serve health
        // checks all its life.
        self.refused.inc();
        Some(if grant == Grant::HealthWhenFull {
            format!(
                "all {} connections are in use (--web.max-connections); try again later\n",
                self.max_connections
            )
        } else {
            format!(
                "your address has {} connections in use, the most for one address (--web.max-connections-per-address); \
                 close some, or try again later\n",
                self.max_by_address
            )
        })
    }
}

/// Serves `gate` on all `listeners` until `shutdown` resolves. Then it accepts no new connections,
/// ends subscriptions, closes idle connections and gives running requests [`Timeouts::drain`].
pub async fn serve(
    listeners: Vec<Listener>,
    gate: Arc<StartupGate>,
    shutdown: impl Future<Output = ()> + Send,
    options: ServeOptions,
    metrics: &Metrics,
) {
    let http = Arc::new(Http::new(gate.clone(), options, metrics));
    let mut accepting: JoinSet<()> =
        listeners.into_iter().map(|listener| accept(http.clone(), listener)).collect();
    shutdown.await;
    gate.stop();
    while let Some(ended) = accepting.join_next().await {
        if let Err(e) = ended {
            tracing::error!(target: "web", "a listener has failed: {e}; restart the server");
        }
    }
}

/// Accepts connections and serves each in its own task, until the server stops and all have ended.
async fn accept(http: Arc<Http>, listener: Listener) {
    let mut connections = JoinSet::new();
    let mut next_connection = Box::pin(next(&http, &listener));
    loop {
        tokio::select! {
            () = http.gate.stopped() => break,
            Some(_) = connections.join_next() => {}
            serving = &mut next_connection => {
                connections.spawn(serving);
                next_connection = Box::pin(next(&http, &listener));
            }
        }
    }
    drop(next_connection);
    drop(listener);
    let drain = async { while connections.join_next().await.is_some() {} };
    if timeout(http.timeouts.drain, drain).await.is_err() {
        let left = connections.len();
        let seconds = http.timeouts.drain.as_secs_f64();
        // Subscriptions and slow readers: they learn it from the closed connection.
        tracing::info!(target: "web", connections = left, "connections with open requests are closed {seconds} s after the stop");
    }
    connections.shutdown().await;
}

/// Accepts the next connection, ready to be served. After a failure it retries with growing pauses.
async fn next(http: &Arc<Http>, listener: &Listener) -> impl Future<Output = ()> + Send + 'static + use<> {
    let mut pause = limits::ACCEPT_PAUSE;
    let (stream, address) = loop {
        let e = match listener.accept().await {
            Ok(accepted) => break accepted,
            Err(e) if is_of_one_connection(&e) => continue,
            Err(e) => e,
        };
        http.accept_errors.inc();
        if pause == limits::ACCEPT_PAUSE {
            tracing::error!(target: "web", "cannot accept connections: {e}; raise the limit of open files (ulimit -n)");
        }
        sleep(pause).await;
        pause = (pause * 2).min(limits::ACCEPT_PAUSE_MAX);
    };
    let progress = Progress::new(http.timeouts);
    let slot = http.slots.admit(address.ip(), &progress).await;
    connection::serve(http.clone(), stream, address, slot, progress)
}

/// Whether the error concerns only the one connection, not the listener.
fn is_of_one_connection(e: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(e.kind(), ConnectionRefused | ConnectionAborted | ConnectionReset)
}
