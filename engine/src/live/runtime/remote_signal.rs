//! Requests for a tick from a process of a cluster other than process 0: they are sent to process
//! 0, which decides about ticks.

use super::super::links::{ClusterMonitor, PeerSignal};
use super::super::sample_queue::TickSignal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Sends the requests of this process to process 0.
pub(super) struct RemoteTickSignal {
    /// Set by the first arrival since the last tick, so that further ones send nothing.
    is_sent: AtomicBool,
    others: Arc<dyn ClusterMonitor>,
}

impl RemoteTickSignal {
    pub(super) fn new(others: Arc<dyn ClusterMonitor>) -> RemoteTickSignal {
        RemoteTickSignal { is_sent: AtomicBool::new(false), others }
    }
}

impl TickSignal for RemoteTickSignal {
    fn samples_arrived(&self) {
        if !self.is_sent.swap(true, SeqCst) {
            self.others.signal(PeerSignal::Arrived);
        }
    }
    fn samples_lost(&self) {
        self.others.signal(PeerSignal::Lost);
    }
    fn samples_taken(&self) {
        self.is_sent.store(false, SeqCst);
    }
}
