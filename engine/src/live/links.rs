//! The other processes of a cluster, as the live runtime sees them: a connection to each, and
//! somebody to tell.
//!
//! How processes find each other, and how they notice that one hangs, is not known here. A
//! connection that breaks is reported once and never becomes a panic of timely's threads: whoever
//! hears of it ends the process.

use std::any::Any;
use std::io::{Read, Result, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use timely::communication::allocator::ProcessBuilder;
use timely::communication::allocator::zero_copy::initialize::initialize_networking_from_sockets;
use timely::communication::allocator::zero_copy::stream::Stream;
use timely::communication::{AllocatorBuilder, Hooks};

/// What process 0 hears from the others.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum PeerSignal {
    /// There is news for a tick: one is wanted soon.
    Arrived,
    /// Samples were not queued: the next tick should have them read from the store.
    Lost,
}

/// What the live runtime says to whoever keeps the cluster together.
pub trait ClusterMonitor: Send + Sync {
    /// Process 0 should hear this. Called under a shard's lock: must not wait.
    fn tell(&self, word: PeerSignal);
    /// The connection to a process ended. Returns if that was to be expected, because the cluster stops.
    fn lost(&self, process: usize, why: &str);
}

/// A process' way to the others.
pub struct PeerLinks {
    /// Its own number.
    pub process: usize,
    /// By process: the connection; `None` at its own place.
    pub links: Vec<Option<TcpStream>>,
    /// Who keeps the cluster together.
    pub others: Arc<dyn ClusterMonitor>,
}

/// What timely starts its workers from.
pub type TimelyBuilders = (Vec<AllocatorBuilder>, Box<dyn Any + Send>);

impl PeerLinks {
    /// Number of processes, this one included.
    pub fn processes(&self) -> usize {
        self.links.len()
    }

    /// The means of communication for `threads` workers in this process, and the network threads.
    pub fn build(self, threads: usize) -> std::result::Result<TimelyBuilders, String> {
        let process = self.process;
        let others = self.others;
        let link = |(to, stream): (usize, Option<TcpStream>)| {
            stream.map(|stream| PeerStream { stream, process: to, others: others.clone() })
        };
        let links = self.links.into_iter().enumerate().map(link).collect();
        let hooks = Hooks::default();
        let within = ProcessBuilder::new_typed_vector(threads, hooks.refill.clone(), hooks.spill.clone());
        let (builders, guard) =
            initialize_networking_from_sockets::<PeerStream>(within, links, process, threads, hooks)
                .map_err(|e| format!("cannot start the threads that talk to other processes: {e}"))?;
        Ok((builders.into_iter().map(AllocatorBuilder::Tcp).collect(), Box::new(guard)))
    }
}

/// A connection that tells when it breaks.
struct PeerStream {
    stream: TcpStream,
    process: usize,
    others: Arc<dyn ClusterMonitor>,
}

impl PeerStream {
    fn broken(&self, why: &str) {
        self.others.lost(self.process, why);
    }

    fn look<T>(&self, result: Result<T>) -> Result<T> {
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
        self.look(read)
    }
}

impl Write for PeerStream {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let written = self.stream.write(bytes);
        self.look(written)
    }
    fn flush(&mut self) -> Result<()> {
        let flushed = self.stream.flush();
        self.look(flushed)
    }
}

impl Stream for PeerStream {
    fn try_clone(&self) -> Result<PeerStream> {
        let stream = self.stream.try_clone()?;
        Ok(PeerStream { stream, process: self.process, others: self.others.clone() })
    }
    fn set_nonblocking(&self, nonblocking: bool) -> Result<()> {
        self.stream.set_nonblocking(nonblocking)
    }
    fn shutdown(&self, how: Shutdown) -> Result<()> {
        // A peer that is through with us may have closed its end: then there is nothing left to shut.
        let _ = self.stream.shutdown(how);
        Ok(())
    }
}
