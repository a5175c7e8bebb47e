//! Answers requests of the other processes of a cluster: a process that has joined may connect to
//! the cluster's address and send one request, which is answered by a thread of its own. By the
//! purpose in its handshake it is a query (answered by [`Querier`]), a [`catalog`] request, or a
//! request for [`late_samples`]. [`super::peer_client`] sends them.

use super::catalog;
use super::error::ConnectionError;
use super::framed_connection::FramedConnection;
use super::handshake::{ConnectionPurpose, Handshake};
use super::late_samples;
use super::peer_client::ServerHandshake;
use super::semaphore::BlockingSemaphore;
use super::{CANCEL_POLL, ClusterConfig, spawn};
use crate::limits::{HANDSHAKE_TIMEOUT, REQUEST_QUEUE_MESSAGES};
use engine::limits::{MESSAGE_BYTES, PEER_QUERIES};
use engine::query::guard::QueryGuard;
use engine::query::peers::PeerChannel;
use engine::query::pool::nice;
use engine::query::{Querier, QueryError, QueryOptions};
use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;
use storage::codec;
use storage::store::Store;
use views::recording::LateSampleMonitor;

/// The pause after a failed accept, mostly because of too many open files.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// What answers the requests.
pub struct PeerServices {
    /// The query runtime.
    pub querier: Arc<Querier>,
    /// The local store.
    pub store: Arc<Store>,
    /// The late samples of the store.
    pub late_samples: Arc<LateSampleMonitor>,
    /// Why answers are partial; `None`: they are not.
    pub incomplete_reason: Box<dyn Fn() -> Option<String> + Send + Sync>,
}

/// The listener for requests of the others.
pub struct PeerListener {
    pub(super) setup: ClusterConfig,
    pub(super) listener: TcpListener,
    pub(super) incarnations: Vec<u64>,
}

struct PeerServer {
    setup: ClusterConfig,
    incarnations: Vec<u64>,
    services: PeerServices,
    /// Permits for connections; further ones wait in the backlog of the listener.
    permits: Arc<BlockingSemaphore>,
}

impl PeerListener {
    /// Starts answering requests, until the process ends.
    pub fn open(self, services: PeerServices) -> io::Result<()> {
        let PeerListener { setup, listener, incarnations } = self;
        listener.set_nonblocking(false)?;
        let permits = BlockingSemaphore::new(PEER_QUERIES * incarnations.len());
        let server = Arc::new(PeerServer { setup, incarnations, services, permits });
        spawn("cluster:accept".to_owned(), move || server.accept_loop(&listener))
    }
}

impl PeerServer {
    fn accept_loop(self: Arc<PeerServer>, listener: &TcpListener) {
        loop {
            // Before the connection is accepted: what is too much waits in the backlog of the
            // kernel and costs no thread.
            let permit = self.permits.take();
            let Ok((stream, from)) = listener.accept() else {
                std::thread::sleep(ACCEPT_RETRY_PAUSE);
                continue;
            };
            let server = self.clone();
            let serve = move || {
                // Requests of others are queries; the ticks of this process come first.
                nice();
                if let Err(error) = server.serve(stream) {
                    tracing::warn!(
                        %from, %error,
                        "refused a connection that is not from this cluster; check who connects to the cluster's port"
                    );
                }
                drop(permit);
            };
            if let Err(error) = spawn("cluster:answer".to_owned(), serve) {
                tracing::error!(
                    %error,
                    "cannot start a thread for another process, whose query fails; raise the limit of threads"
                );
            }
        }
    }

    /// Answers the request on a connection; fails if the sender does not belong to the cluster.
    fn serve(&self, mut stream: TcpStream) -> Result<(), ConnectionError> {
        stream.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
        let handshake = Handshake::receive(&mut stream)?;
        // Anybody who reaches the port may connect; only a process that joined this cluster is
        // answered.
        if self.incarnations.get(handshake.process) != Some(&handshake.incarnation) {
            return Err(ConnectionError::NotJoined(handshake.process));
        }
        let mut connection = FramedConnection::new(stream, self.setup.name(handshake.process))?;
        let input = connection.stream().try_clone()?;
        // The reading thread does nothing but wait, so it needs no timeout.
        input.set_read_timeout(None)?;
        let (sender, messages) = sync_channel(REQUEST_QUEUE_MESSAGES);
        let cancel = Arc::new(AtomicBool::new(false));
        let reader_cancel = cancel.clone();
        spawn("cluster:receive".to_owned(), move || receive_messages(input, &sender, &reader_cancel))?;
        let answered = self.send_handshake(&mut connection).and_then(|()| {
            let mut call = IncomingCall { connection: &mut connection, messages };
            match handshake.purpose {
                ConnectionPurpose::Query => self.services.querier.answer(&mut call, cancel),
                ConnectionPurpose::Catalog => catalog::answer(&self.services.store, &mut call, cancel),
                ConnectionPurpose::LateSamples => {
                    late_samples::answer(&self.services.late_samples, &mut call, cancel)
                }
                ConnectionPurpose::Dataflow | ConnectionPurpose::Heartbeat => Ok(()),
            }
        });
        connection.end();
        if let Err(error) = answered {
            tracing::debug!(from = connection.name, %error, "cannot answer the question of another process");
        }
        Ok(())
    }

    fn send_handshake(&self, connection: &mut FramedConnection) -> Result<(), QueryError> {
        let guard = QueryGuard::new(&QueryOptions { timeout: HANDSHAKE_TIMEOUT, ..QueryOptions::default() });
        let incarnation = self.incarnations[self.setup.process];
        let handshake =
            ServerHandshake { incarnation, incomplete_reason: (self.services.incomplete_reason)() };
        let handshake = codec::encode(&handshake).map_err(|e| QueryError::Internal(e.to_string()))?;
        connection.send(&handshake, &guard)?;
        connection.flush(&guard)
    }
}

/// Passes the messages of the requesting process on; cancels the request when the connection ends.
fn receive_messages(mut stream: TcpStream, sender: &SyncSender<Vec<u8>>, cancel: &AtomicBool) {
    let mut next = || -> Option<Vec<u8>> {
        let mut length = [0; 4];
        stream.read_exact(&mut length).ok()?;
        let length = u32::from_le_bytes(length) as usize;
        let mut message = Vec::new();
        let fits = length <= MESSAGE_BYTES;
        fits.then(|| stream.by_ref().take(length as u64).read_to_end(&mut message).ok())??;
        (message.len() == length).then_some(message)
    };
    while let Some(message) = next() {
        if sender.send(message).is_err() {
            return;
        }
    }
    // The connection ended while the answer was computed: nobody wants it any more.
    cancel.store(true, Relaxed);
}

/// The answering side of a connection.
struct IncomingCall<'a> {
    connection: &'a mut FramedConnection,
    messages: Receiver<Vec<u8>>,
}

impl PeerChannel for IncomingCall<'_> {
    fn name(&self) -> String {
        self.connection.name.clone()
    }

    fn send(&mut self, message: &[u8], guard: &QueryGuard) -> Result<(), QueryError> {
        self.connection.send(message, guard)
    }

    fn flush(&mut self, guard: &QueryGuard) -> Result<(), QueryError> {
        self.connection.flush(guard)
    }

    fn receive(&mut self, guard: &QueryGuard) -> Result<Vec<u8>, QueryError> {
        loop {
            guard.check()?;
            match self.messages.recv_timeout(CANCEL_POLL) {
                Ok(message) => return Ok(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(QueryError::Canceled(format!("{} has gone away", self.connection.name)));
                }
            }
        }
    }
}
