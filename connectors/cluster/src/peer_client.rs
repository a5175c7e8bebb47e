//! Sends requests for history to the other processes: one connection per process and request, which
//! begins with a handshake. [`super::peer_server`] is the other side.

use super::error::ConnectionError;
use super::framed::{FramedConnection, late};
use super::handshake::{ConnectionPurpose, Handshake};
use super::semaphore::{BlockingPermit, BlockingSemaphore};
use super::{CANCEL_POLL, ClusterConfig};
use crate::limits::CALL_CONNECT;
use engine::limits::PEER_QUERIES;
use engine::query::QueryError;
use engine::query::guard::QueryGuard;
use engine::query::peers::{PeerChannel, PeerChannels, QueryPeers};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use storage::codec;

/// The first message of the answering process.
#[derive(Serialize, Deserialize)]
pub(crate) struct ServerHandshake {
    /// A number that differs for each start of the process.
    pub incarnation: u64,
    /// Why answers from its store are partial.
    pub left_out: Option<String>,
}

/// The client for requests to the other processes.
pub struct PeerClient {
    setup: ClusterConfig,
    /// The incarnation of each process that has joined, including this one.
    incarnations: Vec<u64>,
    /// Permits for concurrent requests.
    turns: Arc<BlockingSemaphore>,
    /// Why answers from the store of each process are partial, from its latest answer.
    left_out: Mutex<Vec<Option<String>>>,
}

impl PeerClient {
    /// A client for the processes that have joined.
    pub fn new(setup: ClusterConfig, incarnations: Vec<u64>) -> Arc<PeerClient> {
        let left_out = Mutex::new(vec![None; incarnations.len()]);
        Arc::new(PeerClient { setup, incarnations, turns: BlockingSemaphore::new(PEER_QUERIES), left_out })
    }

    /// Which stores are partial, and why, from the latest answers.
    pub fn left_out(&self) -> Option<String> {
        let known = self.left_out.lock();
        let said = known.iter().enumerate().filter_map(|(process, text)| Some((process, text.as_ref()?)));
        said.map(|(process, text)| format!("{}: {text}", self.setup.name(process)))
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
        let turn = self.turn(guard)?;
        self.others().map(|process| Ok((process, self.call_in_turn(process, purpose, &turn)?))).collect()
    }

    /// Starts a request to one of the others.
    pub fn call(
        self: &Arc<PeerClient>,
        process: usize,
        purpose: ConnectionPurpose,
        guard: &QueryGuard,
    ) -> Result<PeerCall, QueryError> {
        self.call_in_turn(process, purpose, &self.turn(guard)?)
    }

    fn turn(&self, guard: &QueryGuard) -> Result<Arc<BlockingPermit>, QueryError> {
        let wanted = || guard.check().map_err(|e| late("the cluster", e, guard));
        Ok(Arc::new(self.turns.take_while(CANCEL_POLL, wanted)?))
    }

    fn call_in_turn(
        self: &Arc<PeerClient>,
        process: usize,
        purpose: ConnectionPurpose,
        turn: &Arc<BlockingPermit>,
    ) -> Result<PeerCall, QueryError> {
        let wire = self.dial(process, purpose).map_err(|why| {
            QueryError::Unavailable(format!("{} cannot be asked: {why}", self.setup.name(process)))
        })?;
        Ok(PeerCall { wire, process, welcomed: false, client: self.clone(), _turn: turn.clone() })
    }

    fn dial(&self, process: usize, purpose: ConnectionPurpose) -> Result<FramedConnection, ConnectionError> {
        let mut addresses = self.setup.addresses[process].to_socket_addrs()?;
        let address = addresses.next().ok_or(ConnectionError::NoAddress)?;
        let mut stream = TcpStream::connect_timeout(&address, CALL_CONNECT)?;
        // The incarnation is sufficient: the processes agreed on all facts when they joined.
        let hello = Handshake {
            process: self.setup.process,
            purpose,
            incarnation: self.incarnations[self.setup.process],
            facts: Vec::new(),
        };
        hello.send(&mut stream)?;
        Ok(FramedConnection::new(stream, self.setup.name(process))?)
    }
}

/// Implements the trait of the engine for an `Arc` of the client.
pub struct ClusterQueryPeers(pub Arc<PeerClient>);

impl QueryPeers for ClusterQueryPeers {
    fn process(&self) -> usize {
        self.0.setup.process
    }

    fn channels(&self, guard: &QueryGuard) -> Result<PeerChannels, QueryError> {
        let calls = self.0.call_all(ConnectionPurpose::Question, guard)?;
        Ok(calls
            .into_iter()
            .map(|(process, call)| (process, Box::new(call) as Box<dyn PeerChannel>))
            .collect())
    }
}

/// A request to one process.
pub struct PeerCall {
    wire: FramedConnection,
    process: usize,
    welcomed: bool,
    client: Arc<PeerClient>,
    /// Released when all calls of the request have ended.
    _turn: Arc<BlockingPermit>,
}

impl PeerCall {
    /// Receives the handshake of the answering process: checks its incarnation, and records whether
    /// its store is partial.
    fn welcome(&mut self, guard: &QueryGuard) -> Result<(), QueryError> {
        let said = self.wire.receive(guard)?;
        let wrong =
            |why: String| QueryError::Unavailable(format!("{} does not answer: {why}", self.wire.name));
        let welcome: ServerHandshake = codec::decode(&said).map_err(|e| wrong(e.to_string()))?;
        let caller = &self.client;
        // A restarted process has an empty dataflow and perhaps other shards; the cluster ends, and
        // until then it must not answer.
        if welcome.incarnation != caller.incarnations[self.process] {
            return Err(wrong("it has started anew".to_owned()));
        }
        caller.left_out.lock()[self.process] = welcome.left_out;
        self.welcomed = true;
        Ok(())
    }
}

impl PeerChannel for PeerCall {
    fn name(&self) -> String {
        self.wire.name.clone()
    }

    fn send(&mut self, message: &[u8], guard: &QueryGuard) -> Result<(), QueryError> {
        self.wire.send(message, guard)
    }

    fn flush(&mut self, guard: &QueryGuard) -> Result<(), QueryError> {
        self.wire.flush(guard)
    }

    fn receive(&mut self, guard: &QueryGuard) -> Result<Vec<u8>, QueryError> {
        // Received with the first answer, not before the question is sent: that saves a round trip.
        if !self.welcomed {
            self.welcome(guard)?;
        }
        self.wire.receive(guard)
    }
}
