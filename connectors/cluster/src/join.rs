//! Connects the processes of a cluster at their start. Each listens on its own address and connects
//! to those with lower numbers, until every pair has its two connections: one for the dataflow of
//! the live runtime, one for the heartbeat. The processes may start in any order. An *incarnation*
//! is a number that differs for each start of a process; by it the others notice a restart.

use super::ClusterConfig;
use super::error::{ClusterError, ConnectionError};
use super::handshake::{ConnectionPurpose, Handshake};
use crate::limits::HANDSHAKE_TIMEOUT;
use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind::{TimedOut, WouldBlock};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// The interval between attempts.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// The interval of log lines that name the missing processes.
const WAIT_LOG_INTERVAL: Duration = Duration::from_secs(5);
/// Sent by each process to each other one when it has all its connections.
const READY: u8 = b'R';

/// The connections of a complete cluster.
pub(crate) struct JoinedPeers {
    /// The connections of the dataflow, by process; `None` for this one.
    pub links: Vec<Option<TcpStream>>,
    /// The connections of the heartbeat, by process; `None` for this one.
    pub heartbeats: Vec<Option<TcpStream>>,
    /// The incarnation of each process that has joined, including this one.
    pub incarnations: Vec<u64>,
    /// The listener for further connections.
    pub listener: TcpListener,
}

/// What has been connected to another process.
#[derive(Default)]
struct PeerProgress {
    incarnation: u64,
    link: Option<TcpStream>,
    heartbeat: Option<TcpStream>,
    /// Why the last attempt failed.
    last_error: Option<String>,
}

impl PeerProgress {
    fn is_complete(&self) -> bool {
        self.link.is_some() && self.heartbeat.is_some()
    }
}

/// The state of [`join`] while processes are missing.
struct JoinAttempt<'a> {
    setup: &'a ClusterConfig,
    incarnation: u64,
    others: Vec<PeerProgress>,
}

/// Waits until all processes are connected, at most as long as the setup allows.
pub(crate) fn join(setup: &ClusterConfig) -> Result<JoinedPeers, ClusterError> {
    let address = &setup.addresses[setup.process];
    let listener = TcpListener::bind(address).and_then(|l| l.set_nonblocking(true).map(|()| l));
    let listener = listener.map_err(|source| ClusterError::Listen { address: address.clone(), source })?;
    let mut attempt = JoinAttempt {
        setup,
        incarnation: RandomState::new().hash_one(setup.process),
        others: setup.addresses.iter().map(|_| PeerProgress::default()).collect(),
    };
    let started = Instant::now();
    let mut last_log = None::<Instant>;
    loop {
        // First: a process that was restarted meanwhile has to be connected again, and its old
        // connection looks alive until it is read.
        attempt.forget_dead();
        attempt.accept(&listener)?;
        attempt.dial()?;
        let missing = attempt.missing();
        if missing.is_empty() {
            break;
        }
        if started.elapsed() >= setup.join_timeout {
            return Err(ClusterError::Incomplete { join_timeout: setup.join_timeout, missing });
        }
        if last_log.is_none_or(|time| time.elapsed() >= WAIT_LOG_INTERVAL) {
            tracing::info!(
                "process {} waits for the others of its cluster: {}",
                setup.process,
                missing.join("; ")
            );
            last_log = Some(Instant::now());
        }
        std::thread::sleep(RETRY_INTERVAL);
    }
    let joined = attempt.into_joined(listener);
    // Connected is not enough: a process that gives up now must not leave the others running
    // without it.
    await_all_ready(
        setup,
        &joined,
        setup.join_timeout.saturating_sub(started.elapsed()).max(HANDSHAKE_TIMEOUT),
    )?;
    tracing::info!(process = setup.process, processes = setup.addresses.len(), "the cluster is complete");
    Ok(joined)
}

impl JoinAttempt<'_> {
    fn handshake(&self, purpose: ConnectionPurpose) -> Handshake {
        Handshake {
            process: self.setup.process,
            purpose,
            incarnation: self.incarnation,
            required_settings: self.setup.required_settings.clone(),
        }
    }

    /// The missing processes, with the reason of the last failed attempt.
    fn missing(&self) -> Vec<String> {
        let missing = |(process, other): (usize, &PeerProgress)| {
            let is_missing = process != self.setup.process && !other.is_complete();
            let reason = other.last_error.as_ref().map_or(String::new(), |error| format!(": {error}"));
            is_missing.then(|| format!("{}{reason}", self.setup.name(process)))
        };
        self.others.iter().enumerate().filter_map(missing).collect()
    }

    /// Drops connections to processes that have ended or restarted meanwhile; those with lower
    /// numbers are connected again.
    fn forget_dead(&mut self) {
        for other in &mut self.others {
            if other.link.iter().chain(&other.heartbeat).any(is_dead) {
                *other = PeerProgress::default();
            }
        }
    }

    /// Accepts the connections of other processes.
    fn accept(&mut self, listener: &TcpListener) -> Result<(), ClusterError> {
        while let Ok((stream, from)) = listener.accept() {
            match self.answer_handshake(stream) {
                Ok((handshake, _))
                    if handshake.process <= self.setup.process || handshake.process >= self.others.len() =>
                {
                    return Err(ClusterError::UnexpectedProcess { from, process: handshake.process });
                }
                Ok((handshake, stream)) => self.add_connection(handshake, stream)?,
                Err(error) => tracing::warn!(
                    %from, %error,
                    "refused a connection that is not from this cluster; check who connects to the cluster's port"
                ),
            }
        }
        Ok(())
    }

    /// Receives the handshake of the other process, and answers with the same purpose.
    fn answer_handshake(&self, mut stream: TcpStream) -> Result<(Handshake, TcpStream), ConnectionError> {
        prepare(&stream)?;
        let handshake = Handshake::receive(&mut stream)?;
        // Requests come only from processes that are complete; this one belongs to an older
        // cluster at the same address.
        if !matches!(handshake.purpose, ConnectionPurpose::Dataflow | ConnectionPurpose::Heartbeat) {
            return Err(ConnectionError::NotComplete);
        }
        self.handshake(handshake.purpose).send(&mut stream)?;
        Ok((handshake, stream))
    }

    /// Tries to connect to the missing processes with lower numbers.
    fn dial(&mut self) -> Result<(), ClusterError> {
        // Each pair is connected by the higher number, so that two processes do not connect to each
        // other twice.
        for process in 0..self.setup.process {
            for purpose in [ConnectionPurpose::Dataflow, ConnectionPurpose::Heartbeat] {
                let other = &self.others[process];
                let existing =
                    if purpose == ConnectionPurpose::Dataflow { &other.link } else { &other.heartbeat };
                if existing.is_some() {
                    continue;
                }
                match self.connect(process, purpose) {
                    Ok((handshake, _)) if handshake.process != process => {
                        let peer = self.setup.name(process);
                        return Err(ClusterError::OtherProcess { peer, process: handshake.process });
                    }
                    Ok((handshake, stream)) => self.add_connection(handshake, stream)?,
                    // Most often it has not started yet. The reason is shown if it never comes.
                    Err(error) => {
                        self.others[process].last_error = Some(error.to_string());
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Connects to a process and exchanges handshakes.
    fn connect(
        &self,
        process: usize,
        purpose: ConnectionPurpose,
    ) -> Result<(Handshake, TcpStream), ConnectionError> {
        let mut addresses = self.setup.addresses[process].to_socket_addrs()?;
        let address = addresses.next().ok_or(ConnectionError::NoAddress)?;
        let mut stream = TcpStream::connect_timeout(&address, HANDSHAKE_TIMEOUT)?;
        prepare(&stream)?;
        self.handshake(purpose).send(&mut stream)?;
        let handshake = Handshake::receive(&mut stream)?;
        Ok((handshake, stream))
    }

    /// Stores a connection, if the required settings of both processes agree. If the process has
    /// restarted, its old connections are dropped.
    fn add_connection(&mut self, handshake: Handshake, stream: TcpStream) -> Result<(), ClusterError> {
        let differences = self.handshake(handshake.purpose).differences(&handshake);
        // An error and no warning: with different numbers of shards or grids, two processes would
        // compute different answers and neither would be wrong.
        if !differences.is_empty() {
            let peer = self.setup.name(handshake.process);
            return Err(ClusterError::Mismatch { peer, differences });
        }
        let other = &mut self.others[handshake.process];
        // It has restarted: its other connection is that of a process which no longer exists.
        if other.incarnation != handshake.incarnation {
            *other = PeerProgress { incarnation: handshake.incarnation, ..PeerProgress::default() };
        }
        match handshake.purpose {
            ConnectionPurpose::Dataflow => other.link = Some(stream),
            ConnectionPurpose::Heartbeat => other.heartbeat = Some(stream),
            ConnectionPurpose::Query | ConnectionPurpose::Catalog | ConnectionPurpose::LateSamples => {}
        }
        Ok(())
    }

    fn into_joined(self, listener: TcpListener) -> JoinedPeers {
        let mut incarnations: Vec<u64> = self.others.iter().map(|other| other.incarnation).collect();
        incarnations[self.setup.process] = self.incarnation;
        let (links, heartbeats) = self.others.into_iter().map(|other| (other.link, other.heartbeat)).unzip();
        JoinedPeers { links, heartbeats, incarnations, listener }
    }
}

/// Whether the other side has closed a connection.
fn is_dead(stream: &TcpStream) -> bool {
    let peeked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    let open = match peeked {
        Ok(bytes) => bytes > 0,
        Err(error) => error.kind() == WouldBlock,
    };
    !open || stream.set_nonblocking(false).is_err()
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
    stream.set_write_timeout(Some(HANDSHAKE_TIMEOUT))
}

/// Tells all processes that this one has all its connections, and waits until they have: no process
/// starts while another one still waits.
fn await_all_ready(
    setup: &ClusterConfig,
    joined: &JoinedPeers,
    timeout: Duration,
) -> Result<(), ClusterError> {
    let all = || joined.heartbeats.iter().enumerate().filter_map(|(p, s)| s.as_ref().map(|s| (p, s)));
    let lost =
        |process: usize, source: io::Error| ClusterError::PeerLost { peer: setup.name(process), source };
    for (process, mut stream) in all() {
        stream.write_all(&[READY]).map_err(|e| lost(process, e))?;
    }
    let deadline = Instant::now() + timeout;
    let mut waiting = all().collect::<Vec<_>>();
    for (process, stream) in &waiting {
        stream.set_read_timeout(Some(RETRY_INTERVAL)).map_err(|e| lost(*process, e))?;
    }
    while !waiting.is_empty() {
        // Reads from all processes in turn, so that the loss of any of them is noticed.
        let mut silent = Vec::new();
        for (process, mut stream) in waiting {
            match stream.read_exact(&mut [0]) {
                Ok(()) => {}
                Err(e) if matches!(e.kind(), WouldBlock | TimedOut) && Instant::now() < deadline => {
                    silent.push((process, stream));
                }
                Err(e) => return Err(lost(process, e)),
            }
        }
        waiting = silent;
    }
    for stream in joined.links.iter().flatten() {
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(None)?;
    }
    Ok(())
}
