//! Sends requests to the other processes of a cluster: queries, catalog requests, requests for late
//! samples. Each request has a connection of its own to each process, which begins with a
//! handshake. [`super::peer_server`] answers them; [`super::catalog`] and [`super::late_samples`]
//! say what is asked, and queries come from the engine through [`QueryPeers`].

use super::error::ConnectionError;
use super::framed_connection::{FramedConnection, name_in_timeout};
use super::handshake::{ConnectionPurpose, Handshake};
use super::semaphore::{BlockingPermit, BlockingSemaphore};
use super::{CANCEL_POLL, ClusterConfig};
use crate::limits::CONNECT_TIMEOUT;
use engine::limits::PEER_QUERIES;
use engine::query::QueryError;
use engine::query::guard::QueryGuard;
use engine::query::peers::{PeerChannel, PeerChannels, QueryPeers};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use storage::codec;

/// The first message of the answering process. It does not repeat [`Handshake`]: the processes
/// compared their settings when they joined.
#[derive(Serialize, Deserialize)]
pub(crate) struct ServerHandshake {
    /// A number that differs for each start of the process.
    pub incarnation: u64,
    /// Why answers from its store are partial.
    pub incomplete_reason: Option<String>,
}

/// The client for requests to the other processes.
pub struct PeerClient {
    setup: ClusterConfig,
    /// The incarnation of each process that has joined, including this one.
    incarnations: Vec<u64>,
    /// Permits for concurrent requests of this process.
    permits: Arc<BlockingSemaphore>,
    /// Why answers from the store of each process are partial, from its latest answer.
    incomplete_reasons: Mutex<Vec<Option<String>>>,
}

impl PeerClient {
    /// A client for the processes that have joined.
    pub fn new(setup: ClusterConfig, incarnations: Vec<u64>) -> Arc<PeerClient> {
        let incomplete_reasons = Mutex::new(vec![None; incarnations.len()]);
        Arc::new(PeerClient {
            setup,
            incarnations,
            permits: BlockingSemaphore::new(PEER_QUERIES),
            incomplete_reasons,
        })
    }

    /// Which stores are partial, and why, from the latest answers.
    pub fn incomplete_reason(&self) -> Option<String> {
        let reasons = self.incomplete_reasons.lock();
        let known = reasons.iter().enumerate().filter_map(|(process, text)| Some((process, text.as_ref()?)));
        known
            .map(|(process, text)| format!("{}: {text}", self.setup.name(process)))
            .reduce(|a, b| format!("{a}; {b}"))
    }

    /// The numbers of the other processes.
    pub fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let own = self.setup.process;
        (0..self.incarnations.len()).filter(move |process| *process != own)
    }

    /// Starts a request to each of the others.
    pub fn call_all(
        self: &Arc<PeerClient>,
        purpose: ConnectionPurpose,
        guard: &QueryGuard,
    ) -> Result<Vec<(usize, PeerCall)>, QueryError> {
        // One permit for all processes of a request: with one for each, two requests could hold
        // half of them and wait for the other half for ever.
        let permit = self.permit(guard)?;
        self.others()
            .map(|process| Ok((process, self.call_with_permit(process, purpose, &permit)?)))
            .collect()
    }

    /// Starts a request to one of the others.
    pub fn call(
        self: &Arc<PeerClient>,
        process: usize,
        purpose: ConnectionPurpose,
        guard: &QueryGuard,
    ) -> Result<PeerCall, QueryError> {
        self.call_with_permit(process, purpose, &self.permit(guard)?)
    }

    /// Waits for a permit, as long as the query may run.
    fn permit(&self, guard: &QueryGuard) -> Result<Arc<BlockingPermit>, QueryError> {
        let check_cancelled = || guard.check().map_err(|e| name_in_timeout("the cluster", e, guard));
        Ok(Arc::new(self.permits.take_or_cancelled(CANCEL_POLL, check_cancelled)?))
    }

    fn call_with_permit(
        self: &Arc<PeerClient>,
        process: usize,
        purpose: ConnectionPurpose,
        permit: &Arc<BlockingPermit>,
    ) -> Result<PeerCall, QueryError> {
        let connection = self.connect(process, purpose).map_err(|why| {
            QueryError::Unavailable(format!("{} cannot be asked: {why}", self.setup.name(process)))
        })?;
        Ok(PeerCall {
            connection,
            process,
            has_handshake: false,
            client: self.clone(),
            _permit: permit.clone(),
        })
    }

    fn connect(
        &self,
        process: usize,
        purpose: ConnectionPurpose,
    ) -> Result<FramedConnection, ConnectionError> {
        let mut addresses = self.setup.addresses[process].to_socket_addrs()?;
        let address = addresses.next().ok_or(ConnectionError::NoAddress)?;
        let mut stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
        // The incarnation is sufficient: the processes compared their settings when they joined.
        let handshake = Handshake {
            process: self.setup.process,
            purpose,
            incarnation: self.incarnations[self.setup.process],
            required_settings: Vec::new(),
        };
        handshake.send(&mut stream)?;
        Ok(FramedConnection::new(stream, self.setup.name(process))?)
    }
}

/// The client as the engine's queries use it: implements [`QueryPeers`].
pub struct ClusterQueryPeers(pub Arc<PeerClient>);

impl QueryPeers for ClusterQueryPeers {
    fn process(&self) -> usize {
        self.0.setup.process
    }

    fn channels(&self, guard: &QueryGuard) -> Result<PeerChannels, QueryError> {
        let calls = self.0.call_all(ConnectionPurpose::Query, guard)?;
        Ok(calls
            .into_iter()
            .map(|(process, call)| (process, Box::new(call) as Box<dyn PeerChannel>))
            .collect())
    }
}

/// A request to one process.
pub struct PeerCall {
    connection: FramedConnection,
    /// The number of the other process.
    process: usize,
    /// Whether the handshake of the other process was received.
    has_handshake: bool,
    client: Arc<PeerClient>,
    /// Released when all calls of the request have ended.
    _permit: Arc<BlockingPermit>,
}

impl PeerCall {
    /// Receives the handshake of the answering process: checks its incarnation, and records whether
    /// its store is partial.
    fn receive_handshake(&mut self, guard: &QueryGuard) -> Result<(), QueryError> {
        let bytes = self.connection.receive(guard)?;
        let wrong =
            |why: String| QueryError::Unavailable(format!("{} does not answer: {why}", self.connection.name));
        let handshake: ServerHandshake = codec::decode(&bytes).map_err(|e| wrong(e.to_string()))?;
        let client = &self.client;
        // A restarted process has an empty dataflow and perhaps other shards; the cluster ends, and
        // until then it must not answer.
        if handshake.incarnation != client.incarnations[self.process] {
            return Err(wrong("it has started anew".to_owned()));
        }
        client.incomplete_reasons.lock()[self.process] = handshake.incomplete_reason;
        self.has_handshake = true;
        Ok(())
    }
}

impl PeerChannel for PeerCall {
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
        // Received with the first answer, not before the request is sent: that saves a round trip.
        if !self.has_handshake {
            self.receive_handshake(guard)?;
        }
        self.connection.receive(guard)
    }
}
