//! The way of samples from the store to the workers: a bounded queue each, which the worker empties
//! when a tick begins.
//!
//! Samples belong to the tick that takes them along. A worker's queue is open while the worker has
//! views: it opens before a view's rings are filled from the store, so that each append is in the
//! fill or in the queue, or in both, and the ring knows which (its sequence number).

use super::topology::owner_thread;
use crate::limits::FEED_ITEMS;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use storage::store::{ChangeEvent, ChangeFeed};

/// Who decides when the next tick comes, as seen from those who want one. Called under a shard's
/// lock: must not wait.
pub trait TickSignal: Send + Sync {
    /// Samples are there for the next tick.
    fn samples_arrived(&self);
    /// Something that views wait for is there: it can be worked on before the next tick.
    fn work_ready(&self) {
        self.samples_arrived();
    }
    /// What was queued is not what the store has: the next tick should have that read.
    fn samples_lost(&self);
    /// A tick takes along what is there: later samples are news again.
    fn taken(&self) {}
}

/// The store's end.
pub struct SampleQueues {
    gates: Vec<Arc<WorkerQueue>>,
    bell: Arc<dyn TickSignal>,
}

struct WorkerQueue {
    open: AtomicBool,
    queued: AtomicUsize,
    sender: Sender<ChangeEvent>,
}

/// A worker's end.
pub struct SampleReceiver {
    gate: Arc<WorkerQueue>,
    receiver: Receiver<ChangeEvent>,
    bell: Arc<dyn TickSignal>,
}

/// Queues for so many workers.
pub fn sample_queues(threads: usize, bell: &Arc<dyn TickSignal>) -> (SampleQueues, Vec<SampleReceiver>) {
    let queue = |_| {
        let (sender, receiver) = channel();
        let gate =
            Arc::new(WorkerQueue { open: AtomicBool::new(false), queued: AtomicUsize::new(0), sender });
        (gate.clone(), SampleReceiver { gate, receiver, bell: bell.clone() })
    };
    let (gates, outlets) = (0..threads).map(queue).unzip();
    (SampleQueues { gates, bell: bell.clone() }, outlets)
}

impl ChangeFeed for SampleQueues {
    fn push(&self, item: ChangeEvent) {
        let gate = &self.gates[owner_thread(item.shard, self.gates.len())];
        // Without views nobody reads it; a view that comes later is filled from the store, where it
        // is already.
        if !gate.open.load(SeqCst) {
            return;
        }
        if gate.queued.fetch_add(1, Relaxed) < FEED_ITEMS {
            // A worker that is gone has aborted the process or was told to stop.
            let _ = gate.sender.send(item);
        } else {
            // The queue is bounded and the caller must not wait: what is not queued is read from the store.
            gate.queued.fetch_sub(1, Relaxed);
            self.bell.samples_lost();
        }
        self.bell.samples_arrived();
    }

    fn deleted(&self) {
        if self.gates.iter().any(|gate| gate.open.load(SeqCst)) {
            self.bell.samples_lost();
            self.bell.samples_arrived();
        }
    }
}

impl SampleReceiver {
    /// From now on samples are queued.
    pub fn open(&self) {
        self.gate.open.store(true, SeqCst);
    }

    /// Samples are of no use to this worker any more.
    pub fn close(&self) {
        self.gate.open.store(false, SeqCst);
    }

    /// What has come so far, in the order of the appends.
    pub fn take(&self) -> impl Iterator<Item = ChangeEvent> + '_ {
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
    use storage::store::ChangeData;

    #[derive(Default)]
    struct Heard(Mutex<Vec<&'static str>>);

    impl TickSignal for Heard {
        fn samples_arrived(&self) {
            self.0.lock().push("arrived");
        }
        fn samples_lost(&self) {
            self.0.lock().push("lost");
        }
    }

    fn item(shard: u16, seq: u64) -> ChangeEvent {
        ChangeEvent { shard, seq, data: ChangeData::Rows(Vec::new()) }
    }

    #[test]
    fn samples_wait_in_order_for_the_worker_of_their_shard() {
        let heard = Arc::new(Heard::default());
        let (inlet, outlets) = sample_queues(2, &(heard.clone() as Arc<dyn TickSignal>));
        inlet.push(item(0, 1));
        outlets.iter().for_each(SampleReceiver::open);
        (2..6).for_each(|seq| inlet.push(item(seq as u16 % 2, seq)));
        let seqs = |outlet: &SampleReceiver| outlet.take().map(|item| item.seq).collect::<Vec<_>>();
        assert_eq!((seqs(&outlets[0]), seqs(&outlets[1])), (vec![2, 4], vec![3, 5]));
        assert_eq!(*heard.0.lock(), ["arrived"; 4]);
        outlets[0].close();
        inlet.push(item(0, 6));
        assert!(seqs(&outlets[0]).is_empty());
    }

    #[test]
    fn a_full_queue_says_so() {
        let heard = Arc::new(Heard::default());
        let (inlet, outlets) = sample_queues(1, &(heard.clone() as Arc<dyn TickSignal>));
        outlets[0].open();
        (0..=FEED_ITEMS as u64).for_each(|seq| inlet.push(item(0, seq)));
        assert_eq!(heard.0.lock().iter().filter(|word| **word == "lost").count(), 1);
        assert_eq!(outlets[0].take().count(), FEED_ITEMS);
        inlet.push(item(0, 0));
        assert_eq!(outlets[0].take().count(), 1);
    }
}
