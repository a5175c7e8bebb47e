//! Connects the processes of a cluster: each listens on its own address and connects to those with
//! lower numbers, until every pair has its two connections. The processes may start in any order.

use super::ClusterConfig;
use super::error::{ClusterError, ConnectionError};
use super::handshake::{ConnectionPurpose, Handshake};
use crate::limits::HELLO_TIME;
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

/// The connections, by process.
pub(crate) struct JoinedPeers {
    /// The connections of the dataflow.
    pub links: Vec<Option<TcpStream>>,
    /// The connections of the heartbeat.
    pub pulses: Vec<Option<TcpStream>>,
    /// The incarnation of each process that has joined, including this one.
    pub incarnations: Vec<u64>,
    /// The listener for further connections.
    pub listener: TcpListener,
}

/// What is known of another process.
#[derive(Default)]
struct PeerProgress {
    incarnation: u64,
    link: Option<TcpStream>,
    heartbeat: Option<TcpStream>,
    /// Why the last attempt failed.
    trouble: Option<String>,
}

impl PeerProgress {
    fn is_complete(&self) -> bool {
        self.link.is_some() && self.heartbeat.is_some()
    }
}

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
        if started.elapsed() >= setup.patience {
            return Err(ClusterError::Incomplete { patience: setup.patience, missing });
        }
        if last_log.is_none_or(|at| at.elapsed() >= WAIT_LOG_INTERVAL) {
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
    agree(setup, &joined, setup.patience.saturating_sub(started.elapsed()).max(HELLO_TIME))?;
    tracing::info!(process = setup.process, processes = setup.addresses.len(), "the cluster is complete");
    Ok(joined)
}

impl JoinAttempt<'_> {
    fn hello(&self, purpose: ConnectionPurpose) -> Handshake {
        Handshake {
            process: self.setup.process,
            purpose,
            incarnation: self.incarnation,
            facts: self.setup.facts.clone(),
        }
    }

    /// The missing processes, with the reason of the last failed attempt.
    fn missing(&self) -> Vec<String> {
        let missing = |(process, other): (usize, &PeerProgress)| {
            let wanted = process != self.setup.process && !other.is_complete();
            let trouble = other.trouble.as_ref().map_or(String::new(), |trouble| format!(": {trouble}"));
            wanted.then(|| format!("{}{trouble}", self.setup.name(process)))
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
                Ok((hello, _))
                    if hello.process <= self.setup.process || hello.process >= self.others.len() =>
                {
                    return Err(ClusterError::UnexpectedProcess { from, process: hello.process });
                }
                Ok((hello, stream)) => self.keep(hello, stream)?,
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
        let hello = Handshake::receive(&mut stream)?;
        // Questions come only from processes that are complete; this one belongs to an older
        // cluster at the same address.
        if !matches!(hello.purpose, ConnectionPurpose::Link | ConnectionPurpose::Pulse) {
            return Err(ConnectionError::Early);
        }
        self.hello(hello.purpose).send(&mut stream)?;
        Ok((hello, stream))
    }

    /// Tries to connect to the missing processes with lower numbers.
    fn dial(&mut self) -> Result<(), ClusterError> {
        // Each pair is connected by the higher number, so that two processes do not connect to each
        // other twice.
        for process in 0..self.setup.process {
            for purpose in [ConnectionPurpose::Link, ConnectionPurpose::Pulse] {
                let other = &self.others[process];
                let there = if purpose == ConnectionPurpose::Link { &other.link } else { &other.heartbeat };
                if there.is_some() {
                    continue;
                }
                match self.call(process, purpose) {
                    Ok((hello, _)) if hello.process != process => {
                        let peer = self.setup.name(process);
                        return Err(ClusterError::OtherProcess { peer, process: hello.process });
                    }
                    Ok((hello, stream)) => self.keep(hello, stream)?,
                    // Most often it has not started yet. The reason is shown if it never comes.
                    Err(error) => {
                        self.others[process].trouble = Some(error.to_string());
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn call(
        &self,
        process: usize,
        purpose: ConnectionPurpose,
    ) -> Result<(Handshake, TcpStream), ConnectionError> {
        let mut addresses = self.setup.addresses[process].to_socket_addrs()?;
        let address = addresses.next().ok_or(ConnectionError::NoAddress)?;
        let mut stream = TcpStream::connect_timeout(&address, HELLO_TIME)?;
        prepare(&stream)?;
        self.hello(purpose).send(&mut stream)?;
        let hello = Handshake::receive(&mut stream)?;
        Ok((hello, stream))
    }

    /// Stores a connection, if the facts of both processes agree. If the process has restarted, its
    /// old connections are dropped.
    fn keep(&mut self, hello: Handshake, stream: TcpStream) -> Result<(), ClusterError> {
        let differences = self.hello(hello.purpose).differences(&hello);
        // An error and no warning: with different numbers of shards or grids, two processes would
        // compute different answers and neither would be wrong.
        if !differences.is_empty() {
            let peer = self.setup.name(hello.process);
            return Err(ClusterError::Mismatch { peer, differences });
        }
        let other = &mut self.others[hello.process];
        // It has restarted: its other connection is that of a process which no longer exists.
        if other.incarnation != hello.incarnation {
            *other = PeerProgress { incarnation: hello.incarnation, ..PeerProgress::default() };
        }
        match hello.purpose {
            ConnectionPurpose::Link => other.link = Some(stream),
            ConnectionPurpose::Pulse => other.heartbeat = Some(stream),
            ConnectionPurpose::Question | ConnectionPurpose::Catalog | ConnectionPurpose::Late => {}
        }
        Ok(())
    }

    fn into_joined(self, listener: TcpListener) -> JoinedPeers {
        let mut incarnations: Vec<u64> = self.others.iter().map(|other| other.incarnation).collect();
        incarnations[self.setup.process] = self.incarnation;
        let (links, pulses) = self.others.into_iter().map(|other| (other.link, other.heartbeat)).unzip();
        JoinedPeers { links, pulses, incarnations, listener }
    }
}

/// Whether the other side has closed a connection.
fn is_dead(stream: &TcpStream) -> bool {
    let looked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    let open = match looked {
        Ok(bytes) => bytes > 0,
        Err(error) => error.kind() == WouldBlock,
    };
    !open || stream.set_nonblocking(false).is_err()
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(HELLO_TIME))?;
    stream.set_write_timeout(Some(HELLO_TIME))
}

/// Tells all processes that this one is complete, and waits until they are: no process starts while
/// another one still waits.
fn agree(setup: &ClusterConfig, joined: &JoinedPeers, patience: Duration) -> Result<(), ClusterError> {
    let all = || joined.pulses.iter().enumerate().filter_map(|(p, s)| s.as_ref().map(|s| (p, s)));
    let lost =
        |process: usize, source: io::Error| ClusterError::PeerLost { peer: setup.name(process), source };
    for (process, mut stream) in all() {
        stream.write_all(&[READY]).map_err(|e| lost(process, e))?;
    }
    let until = Instant::now() + patience;
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
                Err(e) if matches!(e.kind(), WouldBlock | TimedOut) && Instant::now() < until => {
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
