//! Samples on their way from the store to the workers: a bounded queue per worker, which the worker
//! empties when a tick begins. The store pushes (it calls [`ChangeFeed`]), the worker takes, and a
//! [`TickSignal`] wakes what decides about ticks.
//!
//! Samples belong to the tick that takes them. A worker's queue is open while the worker has views.
//! It opens before the rings of a view are read from the store, so each append is in what was read,
//! or in the queue, or in both; the ring knows from its sequence number.

use super::topology::owner_thread;
use crate::limits::FEED_ITEMS;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use storage::store::{ChangeEvent, ChangeFeed};

/// Receives requests for a tick.
///
/// # Contract
/// 1. No method blocks. `samples_arrived` and `samples_lost` are called under a shard's lock,
///    `work_ready` on threads that read history, `samples_drained` by a worker when a tick takes
///    its samples. Otherwise appends or ticks wait.
/// 2. After `samples_drained`, the next `samples_arrived` must wake the driver again. Otherwise
///    samples wait for the idle tick.
/// 3. `samples_lost` stays in force until a tick has read it, and that tick rebuilds all views.
///    Otherwise answers miss samples for good.
pub trait TickSignal: Send + Sync {
    /// There are samples for the next tick.
    fn samples_arrived(&self);
    /// There is work for a preparation, before the next tick.
    fn work_ready(&self) {
        self.samples_arrived();
    }
    /// Samples were not queued: the next tick must have the state of views read from the store.
    fn samples_lost(&self);
    /// A tick takes the queued samples: later ones must be signalled again.
    fn samples_drained(&self) {}
}

/// The store's side of the queues.
///
/// # Contract
/// As an implementation of [`ChangeFeed`]:
/// 1. `push` runs under the lock of a shard: it neither waits nor calls the store, which would
///    deadlock.
/// 2. Sequence numbers of a shard ascend. Those of samples that the live runtime recorded itself
///    are missing: the feedback edge of the dataflow delivers these.
/// 3. A queue is opened before a ring is read from the store. The ring drops events whose number is
///    not above that of its selection, so each sample counts once.
/// 4. An event that does not fit is not queued, and `samples_lost` says so: all views are rebuilt.
///    *Checked:* `a_full_queue_says_so`.
/// 5. `deleted` is called under the locks of the store's maintenance: it only signals.
pub struct SampleQueues {
    queues: Vec<Arc<WorkerQueue>>,
    signal: Arc<dyn TickSignal>,
}

struct WorkerQueue {
    open: AtomicBool,
    queued: AtomicUsize,
    sender: Sender<ChangeEvent>,
}

/// A worker's side of its queue.
pub struct SampleReceiver {
    queue: Arc<WorkerQueue>,
    receiver: Receiver<ChangeEvent>,
    signal: Arc<dyn TickSignal>,
}

/// Queues for `threads` workers.
pub fn sample_queues(threads: usize, signal: &Arc<dyn TickSignal>) -> (SampleQueues, Vec<SampleReceiver>) {
    let queue = |_| {
        let (sender, receiver) = channel();
        let queue =
            Arc::new(WorkerQueue { open: AtomicBool::new(false), queued: AtomicUsize::new(0), sender });
        (queue.clone(), SampleReceiver { queue, receiver, signal: signal.clone() })
    };
    let (queues, receivers) = (0..threads).map(queue).unzip();
    (SampleQueues { queues, signal: signal.clone() }, receivers)
}

impl ChangeFeed for SampleQueues {
    fn push(&self, item: ChangeEvent) {
        let queue = &self.queues[owner_thread(item.shard, self.queues.len())];
        // Without views nothing reads the queue. Views that are installed later read the sample
        // from the store.
        if !queue.open.load(SeqCst) {
            return;
        }
        if queue.queued.fetch_add(1, Relaxed) < FEED_ITEMS {
            // Fails only if the worker is gone; then it has aborted the process or was stopped.
            let _ = queue.sender.send(item);
        } else {
            // The queue is bounded and the caller must not wait, so the samples are dropped here
            // and read from the store.
            queue.queued.fetch_sub(1, Relaxed);
            self.signal.samples_lost();
        }
        // After the send: a worker that is woken by it must find the sample.
        self.signal.samples_arrived();
    }

    fn deleted(&self) {
        // A deletion changes what windows contain, but is no event of a shard. Everything is read
        // again; deletions are rare.
        if self.queues.iter().any(|queue| queue.open.load(SeqCst)) {
            self.signal.samples_lost();
            self.signal.samples_arrived();
        }
    }
}

impl SampleReceiver {
    /// From now on samples are queued.
    pub fn open(&self) {
        self.queue.open.store(true, SeqCst);
    }

    /// From now on samples are not queued.
    pub fn close(&self) {
        self.queue.open.store(false, SeqCst);
    }

    /// The samples queued so far, in the order of the appends.
    pub fn take(&self) -> impl Iterator<Item = ChangeEvent> + '_ {
        // Before the queue is read: a sample that arrives after this call signals again, and a
        // sample that arrived before is among those taken. In the other order a sample could be
        // neither taken nor signalled.
        self.signal.samples_drained();
        // Only those that wait now: the queue might never become empty.
        let waiting = self.queue.queued.load(Relaxed);
        self.receiver.try_iter().take(waiting).inspect(|_| {
            self.queue.queued.fetch_sub(1, Relaxed);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use storage::store::ChangeData;

    #[derive(Default)]
    struct SignalLog(Mutex<Vec<&'static str>>);

    impl TickSignal for SignalLog {
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
        let log = Arc::new(SignalLog::default());
        let (queues, receivers) = sample_queues(2, &(log.clone() as Arc<dyn TickSignal>));
        queues.push(item(0, 1));
        for receiver in &receivers {
            receiver.open();
        }
        for seq in 2..6 {
            queues.push(item(seq as u16 % 2, seq));
        }
        let seqs = |receiver: &SampleReceiver| receiver.take().map(|item| item.seq).collect::<Vec<_>>();
        assert_eq!((seqs(&receivers[0]), seqs(&receivers[1])), (vec![2, 4], vec![3, 5]));
        assert_eq!(*log.0.lock(), ["arrived"; 4]);
        receivers[0].close();
        queues.push(item(0, 6));
        assert!(seqs(&receivers[0]).is_empty());
    }

    #[test]
    fn a_full_queue_says_so() {
        let log = Arc::new(SignalLog::default());
        let (queues, receivers) = sample_queues(1, &(log.clone() as Arc<dyn TickSignal>));
        receivers[0].open();
        for seq in 0..=FEED_ITEMS as u64 {
            queues.push(item(0, seq));
        }
        assert_eq!(log.0.lock().iter().filter(|word| **word == "lost").count(), 1);
        assert_eq!(receivers[0].take().count(), FEED_ITEMS);
        queues.push(item(0, 0));
        assert_eq!(receivers[0].take().count(), 1);
    }
}
