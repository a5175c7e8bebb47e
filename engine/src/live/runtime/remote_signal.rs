//! The way to process 0 of a cluster from another process: word of samples, which a tick there takes along.

use super::super::links::{ClusterMonitor, PeerSignal};
use super::super::sample_queue::TickSignal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// See the module.
pub(super) struct RemoteTickSignal {
    /// Set by the first arrival since the last tick; spares the others the way.
    rung: AtomicBool,
    others: Arc<dyn ClusterMonitor>,
}

impl RemoteTickSignal {
    pub(super) fn new(others: Arc<dyn ClusterMonitor>) -> RemoteTickSignal {
        RemoteTickSignal { rung: AtomicBool::new(false), others }
    }
}

impl TickSignal for RemoteTickSignal {
    fn samples_arrived(&self) {
        if !self.rung.swap(true, SeqCst) {
            self.others.tell(PeerSignal::Arrived);
        }
    }
    fn samples_lost(&self) {
        self.others.tell(PeerSignal::Lost);
    }
    fn taken(&self) {
        self.rung.store(false, SeqCst);
    }
}
