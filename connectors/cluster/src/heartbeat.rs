//! The heartbeat between the processes of a cluster, and the end of all processes when one is lost.
//!
//! A dataflow without one of its workers can never finish a tick, and the worker's state exists
//! nowhere else, so a cluster runs completely or not at all. If a process dies, hangs or loses its
//! connection, the others report that and end; if it stops in order, they stop in order. After a
//! restart all processes fill their views from their stores.

use super::{ClusterConfig, name, spawn};
use crate::limits::{HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT};
use engine::live::links::{ClusterMonitor, PeerSignal};
use parking_lot::{Condvar, Mutex};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Notify;

/// How long to wait for the stop notice of a process whose connection has ended: another thread may
/// not have read the notice yet.
const STOP_NOTICE_WAIT: Duration = Duration::from_millis(500);

// Signals: the first byte of a message.
/// Nothing else to tell.
const ALIVE: u8 = b'.';
/// To process 0: samples arrived, a tick should follow.
const ARRIVED: u8 = b'a';
/// To process 0: samples were dropped, views must read them from the store.
const LOST: u8 = b'l';
/// To process 0: late samples can be fetched.
const LATE: u8 = b't';
/// The sender stops in order.
const LEAVING: u8 = b'x';

/// The bytes of a signal: the signal, and the checksum of the sender's configuration in force.
const MESSAGE_BYTES: usize = 9;
/// The number of heartbeats with a different configuration before a warning is logged: reloading
/// all processes takes some seconds.
const MISMATCHES_BEFORE_WARNING: u32 = 5;

/// Receives the signals for process 0.
pub(crate) type OnPeerSignal = Box<dyn Fn(PeerSignal) + Send + Sync>;
/// Receives the number of a process that has late samples.
pub(crate) type OnLateSamples = Box<dyn Fn(usize) + Send + Sync>;

/// The heartbeat with all other processes.
pub struct Heartbeat {
    process: usize,
    addresses: Vec<String>,
    /// Queues of signals to send, by process; `None` for this one.
    senders: Vec<Option<Sender<u8>>>,
    /// The checksum of the configuration in force.
    configuration_checksum: AtomicU64,
    on_peer_signal: OnceLock<OnPeerSignal>,
    on_late_samples: OnceLock<OnLateSamples>,
    /// Which processes have announced that they stop.
    stopping_peers: Mutex<Vec<bool>>,
    peer_stopped: Condvar,
    /// Whether this process has announced that it stops.
    is_stopping: AtomicBool,
    /// Whether a thread already ends this process because a peer is lost.
    is_ending: AtomicBool,
    /// The process whose stop ends this one.
    ended_by: Mutex<Option<usize>>,
    /// Notified when `ended_by` is set.
    peer_ended_cluster: Notify,
}

impl Heartbeat {
    /// Starts the threads that send and receive on `streams`.
    pub(super) fn start(
        setup: &ClusterConfig,
        streams: Vec<Option<TcpStream>>,
    ) -> io::Result<Arc<Heartbeat>> {
        let mut senders = Vec::new();
        let mut threads = Vec::new();
        for (process, stream) in streams.into_iter().enumerate() {
            let Some(stream) = stream else {
                senders.push(None);
                continue;
            };
            let (sender, signals) = channel();
            senders.push(Some(sender));
            threads.push((process, stream, signals));
        }
        let heartbeat = Arc::new(Heartbeat {
            process: setup.process,
            stopping_peers: Mutex::new(vec![false; setup.addresses.len()]),
            addresses: setup.addresses.clone(),
            senders,
            configuration_checksum: AtomicU64::new(setup.configuration_checksum),
            on_peer_signal: OnceLock::new(),
            on_late_samples: OnceLock::new(),
            peer_stopped: Condvar::new(),
            is_stopping: AtomicBool::new(false),
            is_ending: AtomicBool::new(false),
            ended_by: Mutex::new(None),
            peer_ended_cluster: Notify::new(),
        });
        for (process, stream, signals) in threads {
            stream.set_read_timeout(Some(HEARTBEAT_TIMEOUT))?;
            stream.set_write_timeout(Some(HEARTBEAT_TIMEOUT))?;
            let input = stream.try_clone()?;
            let sender = heartbeat.clone();
            let receiver = heartbeat.clone();
            spawn(format!("cluster:send-{process}"), move || sender.send_loop(process, stream, &signals))?;
            spawn(format!("cluster:receive-{process}"), move || receiver.receive_loop(process, input))?;
        }
        Ok(heartbeat)
    }

    /// Sets the receiver of signals for process 0.
    pub fn set_on_peer_signal(&self, on_signal: OnPeerSignal) {
        // Only the first call has an effect.
        let _ = self.on_peer_signal.set(on_signal);
    }

    /// Sets the receiver of the numbers of processes with late samples.
    pub fn set_on_late_samples(&self, on_late_samples: OnLateSamples) {
        // Only the first call has an effect.
        let _ = self.on_late_samples.set(on_late_samples);
    }

    /// Signals to process 0 that this process has late samples. Does not block.
    pub fn signal_late_samples(&self) {
        self.signal_coordinator(LATE);
    }

    /// The number of this process.
    pub fn process(&self) -> usize {
        self.process
    }

    /// Announces that this process stops in order.
    pub fn announce_stop(&self) {
        self.is_stopping.store(true, SeqCst);
        for sender in self.senders.iter().flatten() {
            send_byte(sender, LEAVING);
        }
    }

    /// Sets the checksum of the configuration in force.
    pub fn configure(&self, checksum: u64) {
        self.configuration_checksum.store(checksum, SeqCst);
    }

    fn message(&self, signal: u8) -> [u8; MESSAGE_BYTES] {
        let mut message = [signal; MESSAGE_BYTES];
        message[1..].copy_from_slice(&self.configuration_checksum.load(SeqCst).to_le_bytes());
        message
    }

    /// The process whose stop ended this one; `None`: this one stopped first.
    pub fn ended_by(&self) -> Option<String> {
        let process = (*self.ended_by.lock())?;
        Some(format!(
            "{} has stopped, and a cluster runs whole or not at all",
            name(process, &self.addresses)
        ))
    }

    /// Resolves when another process has announced its stop before this one.
    pub async fn ended(&self) {
        self.peer_ended_cluster.notified().await;
    }

    fn send_loop(&self, process: usize, mut stream: TcpStream, signals: &Receiver<u8>) {
        loop {
            let signal = match signals.recv_timeout(HEARTBEAT_INTERVAL) {
                Ok(signal) => signal,
                Err(RecvTimeoutError::Timeout) => ALIVE,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if let Err(error) = stream.write_all(&self.message(signal)) {
                return self.lost(process, &error.to_string());
            }
        }
    }

    fn receive_loop(&self, process: usize, mut stream: TcpStream) {
        use std::io::ErrorKind::{TimedOut, UnexpectedEof, WouldBlock};
        let mut message = [0; MESSAGE_BYTES];
        let mut different = 0;
        loop {
            match stream.read_exact(&mut message).map_err(|e| (e.kind(), e)) {
                Ok(()) if message[0] == ALIVE => different = self.compare(process, message, different),
                Ok(()) => self.on_signal(process, message[0]),
                // In order or not, it is gone; whether it had announced that decides what happens.
                Err((UnexpectedEof, _)) => return self.lost(process, "it closed the connection"),
                Err((WouldBlock | TimedOut, _)) => {
                    return self.lost(process, &format!("it has been silent for {HEARTBEAT_TIMEOUT:?}"));
                }
                Err((_, error)) => return self.lost(process, &error.to_string()),
            }
        }
    }

    /// Compares the configuration of a process with ours; `different` and the result are the number
    /// of consecutive heartbeats that differed.
    fn compare(&self, process: usize, message: [u8; MESSAGE_BYTES], different: u32) -> u32 {
        if message == self.message(message[0]) {
            if different >= MISMATCHES_BEFORE_WARNING {
                tracing::info!("{} has the same configuration again", name(process, &self.addresses));
            }
            return 0;
        }
        // Once, and not at every heartbeat: nothing changes until somebody reloads.
        if different + 1 == MISMATCHES_BEFORE_WARNING {
            tracing::warn!(
                "{} has another configuration than this process: reload both, or targets may be scraped twice or by nobody",
                name(process, &self.addresses)
            );
        }
        different.saturating_add(1)
    }

    fn on_signal(&self, process: usize, signal: u8) {
        let signal = match signal {
            ARRIVED => PeerSignal::Arrived,
            LOST => PeerSignal::Lost,
            LATE => {
                if let Some(on_late_samples) = self.on_late_samples.get() {
                    on_late_samples(process);
                }
                return;
            }
            LEAVING => {
                self.stopping_peers.lock()[process] = true;
                self.peer_stopped.notify_all();
                // This process did not stop first, so it stops because of the other: the log has to
                // say whose decision it was.
                if !self.is_stopping.load(SeqCst) {
                    self.ended_by.lock().get_or_insert(process);
                    self.peer_ended_cluster.notify_one();
                }
                return;
            }
            _ => return,
        };
        if let Some(on_signal) = self.on_peer_signal.get() {
            on_signal(signal);
        }
    }

    /// Sends a signal to process 0.
    fn signal_coordinator(&self, signal: u8) {
        if let Some(Some(sender)) = self.senders.first() {
            send_byte(sender, signal);
        }
    }

    /// Whether the end of the connection to a process is expected.
    fn is_end_expected(&self, process: usize) -> bool {
        let mut stopping_peers = self.stopping_peers.lock();
        if !stopping_peers[process] && !self.is_stopping.load(SeqCst) {
            // The notice and the end of the connection come on two threads, in any order.
            self.peer_stopped.wait_for(&mut stopping_peers, STOP_NOTICE_WAIT);
        }
        stopping_peers[process] || self.is_stopping.load(SeqCst)
    }
}

impl ClusterMonitor for Heartbeat {
    fn signal(&self, signal: PeerSignal) {
        let signal = match signal {
            PeerSignal::Arrived => ARRIVED,
            PeerSignal::Lost => LOST,
        };
        self.signal_coordinator(signal);
    }

    fn lost(&self, process: usize, why: &str) {
        // A peer that stops in order closes its connection, too.
        if self.is_end_expected(process) {
            return;
        }
        if self.is_ending.swap(true, SeqCst) {
            // Another thread already ends the process.
            loop {
                std::thread::park();
            }
        }
        tracing::error!(
            "process {} of the cluster ends, because {} is lost: {why}. What is acknowledged is in the log; start all processes again",
            self.process,
            name(process, &self.addresses),
        );
        // The dataflow cannot go on without one of its workers, and its state cannot be rebuilt
        // while the others hold theirs. A supervisor starts all of them again.
        std::process::exit(1);
    }
}

fn send_byte(sender: &Sender<u8>, signal: u8) {
    // If the sending thread has ended, the other process is gone and needs no signal.
    let _ = sender.send(signal);
}
