//! In a cluster, process 0 decides when a tick happens: an evaluation of all views that are due.
//! Here is the [`TickSignal`] of the other processes, which forwards arrivals and losses of samples
//! to process 0.

use super::super::links::{ClusterMonitor, PeerSignal};
use super::super::sample_queue::TickSignal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Tells process 0 that samples have arrived or were lost in this process.
pub(super) struct RemoteTickSignal {
    /// Set by the first arrival since the last tick, so that further ones send nothing. Cleared
    /// when a tick takes the samples out of their queue ([`TickSignal::samples_drained`]).
    is_sent: AtomicBool,
    cluster: Arc<dyn ClusterMonitor>,
}

impl RemoteTickSignal {
    pub(super) fn new(cluster: Arc<dyn ClusterMonitor>) -> RemoteTickSignal {
        RemoteTickSignal { is_sent: AtomicBool::new(false), cluster }
    }
}

impl TickSignal for RemoteTickSignal {
    fn samples_arrived(&self) {
        if !self.is_sent.swap(true, SeqCst) {
            self.cluster.signal(PeerSignal::Arrived);
        }
    }
    fn samples_lost(&self) {
        self.cluster.signal(PeerSignal::Lost);
    }
    fn samples_drained(&self) {
        self.is_sent.store(false, SeqCst);
    }
}
