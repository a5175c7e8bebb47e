//! The way of samples from the store to the workers: a bounded queue each, which the worker empties when a tick begins.
//!
//! Samples belong to the tick that takes them along. A worker's queue is open while the worker has views: it opens
//! before a view's rings are filled from the store, so that each append is in the fill or in the queue, or in both,
//! and the ring knows which (its sequence number).

use super::place::keeper;
use crate::limits::FEED_ITEMS;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use storage::store::{Feed, FeedItem};

/// Who decides when the next tick comes, as seen from those who want one. Called under a shard's lock: must not wait.
pub trait Bell: Send + Sync {
    /// Samples are there for the next tick.
    fn arrived(&self);
    /// Something that views wait for is there: it can be worked on before the next tick.
    fn ready(&self) {
        self.arrived();
    }
    /// What was queued is not what the store has: the next tick should have that read.
    fn lost(&self);
    /// A tick takes along what is there: later samples are news again.
    fn taken(&self) {}
}

/// The store's end.
pub struct Inlet {
    gates: Vec<Arc<Gate>>,
    bell: Arc<dyn Bell>,
}

struct Gate {
    open: AtomicBool,
    queued: AtomicUsize,
    sender: Sender<FeedItem>,
}

/// A worker's end.
pub struct Outlet {
    gate: Arc<Gate>,
    receiver: Receiver<FeedItem>,
    bell: Arc<dyn Bell>,
}

/// Queues for so many workers.
pub fn queues(threads: usize, bell: &Arc<dyn Bell>) -> (Inlet, Vec<Outlet>) {
    let queue = |_| {
        let (sender, receiver) = channel();
        let gate = Arc::new(Gate { open: AtomicBool::new(false), queued: AtomicUsize::new(0), sender });
        (gate.clone(), Outlet { gate, receiver, bell: bell.clone() })
    };
    let (gates, outlets) = (0..threads).map(queue).unzip();
    (Inlet { gates, bell: bell.clone() }, outlets)
}

impl Feed for Inlet {
    fn push(&self, item: FeedItem) {
        let gate = &self.gates[keeper(item.shard, self.gates.len())];
        // Without views nobody reads it; a view that comes later is filled from the store, where it is already.
        if !gate.open.load(SeqCst) {
            return;
        }
        if gate.queued.fetch_add(1, Relaxed) < FEED_ITEMS {
            // A worker that is gone has aborted the process or was told to stop.
            let _ = gate.sender.send(item);
        } else {
            // The queue is bounded and the caller must not wait: what is not queued is read from the store.
            gate.queued.fetch_sub(1, Relaxed);
            self.bell.lost();
        }
        self.bell.arrived();
    }

    fn deleted(&self) {
        if self.gates.iter().any(|gate| gate.open.load(SeqCst)) {
            self.bell.lost();
            self.bell.arrived();
        }
    }
}

impl Outlet {
    /// From now on samples are queued.
    pub fn open(&self) {
        self.gate.open.store(true, SeqCst);
    }

    /// Samples are of no use to this worker any more.
    pub fn close(&self) {
        self.gate.open.store(false, SeqCst);
    }

    /// What has come so far, in the order of the appends.
    pub fn take(&self) -> impl Iterator<Item = FeedItem> + '_ {
        self.bell.taken();
        // Not until the queue is empty: that could take for ever.
        let waiting = self.gate.queued.load(Relaxed);
        self.receiver.try_iter().take(waiting).inspect(|_| {
            self.gate.queued.fetch_sub(1, Relaxed);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use storage::store::FeedData;

    #[derive(Default)]
    struct Heard(Mutex<Vec<&'static str>>);

    impl Bell for Heard {
        fn arrived(&self) {
            self.0.lock().push("arrived");
        }
        fn lost(&self) {
            self.0.lock().push("lost");
        }
    }

    fn item(shard: u16, seq: u64) -> FeedItem {
        FeedItem { shard, seq, data: FeedData::Rows(Vec::new()) }
    }

    #[test]
    fn samples_wait_in_order_for_the_worker_of_their_shard() {
        let heard = Arc::new(Heard::default());
        let (inlet, outlets) = queues(2, &(heard.clone() as Arc<dyn Bell>));
        inlet.push(item(0, 1));
        outlets.iter().for_each(Outlet::open);
        (2..6).for_each(|seq| inlet.push(item(seq as u16 % 2, seq)));
        let seqs = |outlet: &Outlet| outlet.take().map(|item| item.seq).collect::<Vec<_>>();
        assert_eq!((seqs(&outlets[0]), seqs(&outlets[1])), (vec![2, 4], vec![3, 5]));
        assert_eq!(*heard.0.lock(), ["arrived"; 4]);
        outlets[0].close();
        inlet.push(item(0, 6));
        assert!(seqs(&outlets[0]).is_empty());
    }

    #[test]
    fn a_full_queue_says_so() {
        let heard = Arc::new(Heard::default());
        let (inlet, outlets) = queues(1, &(heard.clone() as Arc<dyn Bell>));
        outlets[0].open();
        (0..=FEED_ITEMS as u64).for_each(|seq| inlet.push(item(0, seq)));
        assert_eq!(heard.0.lock().iter().filter(|word| **word == "lost").count(), 1);
        assert_eq!(outlets[0].take().count(), FEED_ITEMS);
        inlet.push(item(0, 0));
        assert_eq!(outlets[0].take().count(), 1);
    }
}
