//! [`WireServer`]: accepts connections of PostgreSQL clients, limits their number, and keeps the
//! keys by which a client cancels a statement from another connection. [`super::startup`] and
//! [`super::connection`] then handle each.

use crate::connection::Connection;
use crate::failure::{Failure, state};
use crate::limits;
use crate::startup::{self, Greeting};
use api::protection::Protection;
use api::sql::SqlService;
use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;
use storage::metrics::{Counter, Gauge, Metrics};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Connections that have not said yet who they are, beside [`limits::WIRE_CONNECTIONS`].
const GREETED_AT_ONCE: usize = 16;

/// What a listener needs.
#[derive(Clone)]
pub struct WireOptions {
    /// Runs the statements.
    pub service: SqlService,
    /// TLS and users; `None`: there are none.
    pub protection: Option<Arc<Protection>>,
    /// Counts connections.
    pub metrics: Metrics,
}

/// What all connections share.
pub struct WireServer {
    pub(crate) service: SqlService,
    pub(crate) protection: Option<Arc<Protection>>,
    connections: Arc<Semaphore>,
    /// Places for `COPY … FROM STDIN`.
    pub(crate) copies: Arc<Semaphore>,
    greeted: Arc<Semaphore>,
    next_process: AtomicI32,
    running: Mutex<HashMap<CancelKey, Arc<CancelSlot>>>,
    open: Arc<Gauge>,
    refused: Arc<Counter>,
}

/// What a client shows to cancel a statement of another of its connections.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CancelKey {
    pub(crate) process: i32,
    pub(crate) secret: i32,
}

/// The cancellation of the statement that runs now in a connection.
#[derive(Default)]
pub(crate) struct CancelSlot(Mutex<Arc<AtomicBool>>);

impl CancelSlot {
    /// A statement begins that `cancel` would stop.
    pub(crate) fn begin(&self, cancel: &Arc<AtomicBool>) {
        *self.0.lock() = cancel.clone();
    }

    fn cancel(&self) {
        self.0.lock().store(true, Ordering::Relaxed);
    }
}

/// A place among those that can be canceled; dropping it frees it.
pub(crate) struct CancelRegistration {
    pub(crate) key: CancelKey,
    pub(crate) slot: Arc<CancelSlot>,
    server: Arc<WireServer>,
}

impl Drop for CancelRegistration {
    fn drop(&mut self) {
        self.server.running.lock().remove(&self.key);
        self.server.open.add(-1.0);
    }
}

impl WireServer {
    /// The server for these options.
    pub fn new(options: WireOptions) -> Arc<WireServer> {
        let WireOptions { service, protection, metrics } = options;
        Arc::new(WireServer {
            service,
            protection,
            connections: Arc::new(Semaphore::new(limits::WIRE_CONNECTIONS)),
            copies: Arc::new(Semaphore::new(limits::WIRE_COPIES)),
            greeted: Arc::new(Semaphore::new(GREETED_AT_ONCE)),
            next_process: AtomicI32::new(1),
            running: Mutex::default(),
            open: metrics.gauge("perennial_sql_connections", "Open connections of the PostgreSQL wire.", &[]),
            refused: metrics.counter(
                "perennial_sql_connections_refused_total",
                "Connections of the PostgreSQL wire that were refused: there were too many, or the login failed.",
                &[],
            ),
        })
    }

    /// Serves connections until the server stops.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        let service = self.service.clone();
        let mut stopped = Box::pin(service.stopped());
        loop {
            tokio::select! {
                () = &mut stopped => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        // Beyond it a client sees a closed connection: there is nothing to tell it
                        // with that it could not use to fill the memory.
                        let Ok(place) = self.greeted.clone().try_acquire_owned() else {
                            self.refused.inc();
                            continue;
                        };
                        let server = self.clone();
                        connections.spawn(async move { server.greet(stream, peer, place).await });
                    }
                    Err(e) => {
                        tracing::warn!(target: "sql", "cannot accept a connection of the PostgreSQL wire: {e}");
                        // Mostly the process is out of file descriptors: without the pause the loop
                        // would fail as fast as it can.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        // Each connection tells its client and ends by itself; those that do not are closed.
        let drain = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_millis(500), drain).await;
        connections.shutdown().await;
    }

    /// Finds out who it is, and serves it.
    async fn greet(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        place: tokio::sync::OwnedSemaphorePermit,
    ) {
        let _ = stream.set_nodelay(true);
        let greeted = tokio::time::timeout(limits::WIRE_STARTUP, startup::greet(stream, peer, &self)).await;
        let guest = match greeted {
            Ok(Ok(Greeting::Guest(guest))) => guest,
            // Not answered in either case, as in PostgreSQL: nobody may find keys by trying.
            Ok(Ok(Greeting::Cancel(key))) => {
                let slot = self.running.lock().get(&key).cloned();
                slot.inspect(|slot| slot.cancel());
                return;
            }
            // A client that went away, sent something else, or could not prove who it is.
            Ok(Ok(Greeting::Refused)) => {
                self.refused.inc();
                return;
            }
            Ok(Err(_)) | Err(_) => return,
        };
        // After the login, so that strangers cannot use up the places of users.
        let Ok(_connected) = self.connections.clone().try_acquire_owned() else {
            self.refused.inc();
            let most = limits::WIRE_CONNECTIONS;
            let full = Failure::fatal(state::TOO_MANY_CONNECTIONS, "sorry, too many clients already")
                .hint(format!("the server has at most {most} connections of the PostgreSQL wire"));
            guest.refuse(&full).await;
            return;
        };
        // From here on the connection counts as one of a user.
        drop(place);
        let Some(registered) = self.register() else { return };
        let process = registered.key.process;
        if let Err(e) = Connection::new(self.clone(), *guest, registered).serve().await {
            tracing::debug!(target: "sql", process, "a connection of the PostgreSQL wire has ended: {e}");
        }
    }

    fn register(self: &Arc<Self>) -> Option<CancelRegistration> {
        let mut secret = [0; 4];
        // Without random numbers anybody could cancel.
        SystemRandom::new().fill(&mut secret).ok()?;
        let process = self.next_process.fetch_add(1, Ordering::Relaxed);
        let key = CancelKey { process, secret: i32::from_be_bytes(secret) };
        let slot = Arc::new(CancelSlot::default());
        self.running.lock().insert(key, slot.clone());
        self.open.add(1.0);
        Some(CancelRegistration { key, slot, server: self.clone() })
    }
}
