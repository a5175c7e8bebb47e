//! [`Surroundings`]: clock, disk, network peers and threads, as the server uses them. The program
//! has those of the machine. The simulation (`tests/whole_server`) replaces them, and the code of
//! the server is the same.

use crate::descriptors::{Reserve, ReservedDisk};
use connectors::http_client::Peers;
use connectors::wall_clock::SystemClock;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::execution::Execution;
use storage::metrics::Metrics;

/// The size of a WAL segment of a server without threads (simulation), bytes: small, so that a test
/// creates and removes many segments.
pub const SIMULATION_SEGMENT_BYTES: u64 = 16 << 10;

/// The environment of a server.
pub struct Surroundings {
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The disk that contains the data directory.
    pub disk: Arc<dyn Disk>,
    /// The reserved file descriptors.
    pub reserve: Arc<Reserve>,
    /// The peers that answer scrapes and receive alerts.
    pub peers: Peers,
    /// Where work runs: on threads or in the caller.
    pub execution: Execution,
}

impl Surroundings {
    /// The environment of the machine.
    pub fn of_this_machine(metrics: &Metrics) -> Surroundings {
        let reserve = Reserve::new();
        Surroundings {
            clock: Arc::new(SystemClock),
            disk: Arc::new(ReservedDisk::new(reserve.clone(), metrics)),
            reserve,
            peers: Peers::Network,
            execution: Execution::Threads,
        }
    }
}
