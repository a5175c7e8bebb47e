//! The connections to the other processes of a cluster, as the live runtime uses them. A
//! [`PeerStream`] wraps a TCP connection for timely, the dataflow library; a [`ClusterMonitor`] is
//! told when one breaks.
//!
//! The crate `cluster` connects the processes, and notices that one hangs. A connection that breaks
//! is reported once and never becomes a panic of timely's threads; the monitor ends the process.

use super::StartError;
use std::any::Any;
use std::io::{Read, Result, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use timely::communication::allocator::ProcessBuilder;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::allocator::zero_copy::stream::Stream;
use timely::communication::{AllocatorBuilder, Hooks};

/// What the other processes tell process 0.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum PeerSignal {
    /// Samples have arrived: a tick should follow soon.
    Arrived,
    /// Samples were dropped because a queue was full: the next tick must read them from the store.
    Lost,
}

/// What the live runtime tells the code that runs the cluster.
///
/// # Contract
/// 1. [`ClusterMonitor::signal`] is called under a shard's lock: it must not block. Each signal
///    reaches process 0 at least once; several may become one. A lost signal delays a tick until
///    the idle tick; a lost `Lost` leaves wrong answers.
/// 2. [`ClusterMonitor::lost`] is called once for a broken connection, on a network thread. It
///    returns only if the cluster is stopping. Otherwise it ends the process, because timely cannot
///    go on without a peer.
pub trait ClusterMonitor: Send + Sync {
    /// Sends a signal to process 0. Called under a shard's lock, so it must not block.
    fn signal(&self, signal: PeerSignal);
    /// The connection to a process has ended. Returns only if that was expected, because the
    /// cluster is stopping.
    fn lost(&self, process: usize, why: &str);
}

/// The connections of this process to all others.
pub struct PeerLinks {
    /// Number of this process.
    pub process: usize,
    /// The connection by process number; `None` for this process.
    pub links: Vec<Option<TcpStream>>,
    /// Takes signals for process 0, and is told when a connection breaks.
    pub monitor: Arc<dyn ClusterMonitor>,
}

/// What timely starts its workers from, and the guard that keeps its network threads.
pub type TimelyBuilders = (Vec<AllocatorBuilder>, Box<dyn Any + Send>);

impl PeerLinks {
    /// Number of processes, this one included.
    pub fn processes(&self) -> usize {
        self.links.len()
    }

    /// Creates the communication for `threads` workers in this process, and starts the network
    /// threads.
    pub fn build(self, threads: usize) -> std::result::Result<TimelyBuilders, StartError> {
        let process = self.process;
        let monitor = self.monitor;
        let link = |(to, stream): (usize, Option<TcpStream>)| {
            stream.map(|stream| PeerStream { stream, process: to, monitor: monitor.clone() })
        };
        let links = self.links.into_iter().enumerate().map(link).collect();
        let hooks = Hooks::default();
        let within = ProcessBuilder::new_typed_vector(threads, hooks.refill.clone(), hooks.spill.clone());
        let (builders, guard) =
            initialize_networking_from_sockets::<PeerStream>(within, links, process, threads, hooks)
                .map_err(StartError::Network)?;
        Ok((builders.into_iter().map(AllocatorBuilder::Tcp).collect(), Box::new(guard)))
    }
}

/// A connection that reports when it breaks.
struct PeerStream {
    stream: TcpStream,
    process: usize,
    monitor: Arc<dyn ClusterMonitor>,
}

impl PeerStream {
    fn broken(&self, why: &str) {
        self.monitor.lost(self.process, why);
    }

    /// Reports an error, and returns the result unchanged.
    fn report_error<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result {
            self.broken(&error.to_string());
        }
        result
    }
}

impl Read for PeerStream {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let read = self.stream.read(buffer);
        if matches!(read, Ok(0)) {
            self.broken("it closed the connection");
        }
        self.report_error(read)
    }
}

impl Write for PeerStream {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let written = self.stream.write(bytes);
        self.report_error(written)
    }
    fn flush(&mut self) -> Result<()> {
        let flushed = self.stream.flush();
        self.report_error(flushed)
    }
}

impl Stream for PeerStream {
    fn try_clone(&self) -> Result<PeerStream> {
        let stream = self.stream.try_clone()?;
        Ok(PeerStream { stream, process: self.process, monitor: self.monitor.clone() })
    }
    fn set_nonblocking(&self, nonblocking: bool) -> Result<()> {
        self.stream.set_nonblocking(nonblocking)
    }
    fn shutdown(&self, how: Shutdown) -> Result<()> {
        // The peer may have closed its end already; then there is nothing left to shut down.
        let _ = self.stream.shutdown(how);
        Ok(())
    }
}
