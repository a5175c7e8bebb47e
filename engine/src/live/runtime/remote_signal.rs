//! Requests for a tick from a process of a cluster other than process 0: they are sent to process
//! 0, which decides about ticks.

use super::super::links::{ClusterMonitor, PeerSignal};
use super::super::sample_queue::TickSignal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Sends the requests of this process to process 0.
pub(super) struct RemoteTickSignal {
    /// Set by the first arrival since the last tick, so that further ones send nothing.
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
            self.others.signal(PeerSignal::Arrived);
        }
    }
    fn samples_lost(&self) {
        self.others.signal(PeerSignal::Lost);
    }
    fn taken(&self) {
        self.rung.store(false, SeqCst);
    }
}
