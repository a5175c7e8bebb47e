//! The way to process 0 of a cluster from another process: word of samples, which a tick there takes along.

use super::super::inlet::Bell;
use super::super::peers::{Others, Word};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// See the module.
pub(super) struct Far {
    /// Set by the first arrival since the last tick; spares the others the way.
    rung: AtomicBool,
    others: Arc<dyn Others>,
}

impl Far {
    pub(super) fn new(others: Arc<dyn Others>) -> Far {
        Far { rung: AtomicBool::new(false), others }
    }
}

impl Bell for Far {
    fn arrived(&self) {
        if !self.rung.swap(true, SeqCst) {
            self.others.tell(Word::Arrived);
        }
    }
    fn lost(&self) {
        self.others.tell(Word::Lost);
    }
    fn taken(&self) {
        self.rung.store(false, SeqCst);
    }
}
