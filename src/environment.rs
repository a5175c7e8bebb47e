//! What a server finds around it: the time, a disk, peers, and threads or none. The program has
//! those of the machine; a simulation gives others, and the server is the same.

use crate::descriptors::{Reserve, ReservedDisk};
use connectors::http_client::Peers;
use connectors::wall_clock::SystemClock;
use std::sync::Arc;
use storage::clock::Clock;
use storage::disk::Disk;
use storage::execution::Execution;

/// Size of a segment of the log of a server whose callers work, bytes: small, so that segments come and go.
pub const SEGMENT_BY_HAND_BYTES: u64 = 16 << 10;

/// See the module.
pub struct Surroundings {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where the data directory is.
    pub disk: Arc<dyn Disk>,
    /// File descriptors that are kept back.
    pub reserve: Arc<Reserve>,
    /// Who answers scrapes and takes alerts.
    pub peers: Peers,
    /// Who works.
    pub execution: Execution,
}

impl Surroundings {
    /// Those of the machine.
    pub fn of_this_machine() -> Surroundings {
        let reserve = Reserve::new();
        Surroundings {
            clock: Arc::new(SystemClock),
            disk: Arc::new(ReservedDisk(reserve.clone())),
            reserve,
            peers: Peers::Network,
            execution: Execution::Threads,
        }
    }
}
