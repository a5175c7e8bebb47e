//! Waits until all workers have finished a tick (one evaluation of all views that are due) or a
//! preparation (work between ticks), and collects what they have left to do.

use super::super::gather::RemainingWork;
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use storage::model::TimeMs;

/// The state of the latest tick or preparation.
pub(super) struct TickBarrier {
    /// By worker: number of the newest finished tick or preparation.
    finished: Mutex<Vec<u64>>,
    changed: Condvar,
    latest: Mutex<LatestTick>,
    /// Time of the newest finished tick; `TimeMs::MIN`: none.
    finished_time: AtomicI64,
    /// What the workers of this process had left at the end of the latest tick or preparation:
    /// views that are being installed; work that can be done immediately.
    pending: AtomicBool,
    ready_now: AtomicBool,
}

/// Number of the latest tick or preparation, and time of the latest tick.
struct LatestTick {
    number: u64,
    t: TimeMs,
}

impl TickBarrier {
    /// For `workers` workers, before the first tick.
    pub(super) fn new(workers: usize) -> TickBarrier {
        TickBarrier {
            finished: Mutex::new(vec![0; workers]),
            changed: Condvar::new(),
            latest: Mutex::new(LatestTick { number: 0, t: TimeMs::MIN }),
            finished_time: AtomicI64::new(TimeMs::MIN),
            pending: AtomicBool::new(false),
            ready_now: AtomicBool::new(false),
        }
    }

    /// Begins a tick or a preparation. Returns its number.
    pub(super) fn begin(&self) -> u64 {
        // Set again by the workers when they finish.
        self.pending.store(false, SeqCst);
        self.ready_now.store(false, SeqCst);
        let mut latest = self.latest.lock();
        latest.number += 1;
        latest.number
    }

    /// Whether there was no tick and no preparation yet.
    pub(super) fn is_new(&self) -> bool {
        self.latest.lock().number == 0
    }

    /// The tick at `t` is finished.
    pub(super) fn set_finished_time(&self, t: TimeMs) {
        self.finished_time.store(t, SeqCst);
    }

    /// Time of the newest finished tick.
    pub(super) fn finished_time(&self) -> Option<TimeMs> {
        Some(self.finished_time.load(SeqCst)).filter(|t| *t != TimeMs::MIN)
    }

    /// Sets the time of the tick that begins. Returns that of the tick before.
    pub(super) fn set_time(&self, t: TimeMs) -> TimeMs {
        std::mem::replace(&mut self.latest.lock().t, t)
    }

    /// A worker has finished a tick or preparation, and has this left to prepare.
    pub(super) fn worker_done(&self, worker: usize, number: u64, remaining: RemainingWork) {
        // Before `finished` is set: whoever waits for the number reads these flags next.
        self.pending.fetch_or(remaining.pending, SeqCst);
        self.ready_now.fetch_or(remaining.ready_now, SeqCst);
        self.finished.lock()[worker] = number;
        self.changed.notify_all();
    }

    /// Waits until all workers have finished the tick or preparation of this number.
    pub(super) fn wait(&self, number: u64) {
        let mut finished = self.finished.lock();
        while finished.iter().any(|newest| *newest < number) {
            self.changed.wait(&mut finished);
        }
    }

    /// Whether the first worker has finished the tick or preparation of this number.
    pub(super) fn is_finished(&self, number: u64) -> bool {
        // A worker without threads is alone in its process.
        self.finished.lock()[0] >= number
    }

    /// The workers are stopped: nothing waits for them any more.
    pub(super) fn stop(&self) {
        for newest in self.finished.lock().iter_mut() {
            // A caller that waits for a tick while the runtime stops must not wait for ever.
            *newest = u64::MAX;
        }
        self.changed.notify_all();
    }

    /// Whether workers had something left to prepare.
    pub(super) fn has_work(&self) -> bool {
        self.pending.load(SeqCst) || self.is_ready_now()
    }

    /// Whether workers had something left that can be done immediately.
    pub(super) fn is_ready_now(&self) -> bool {
        self.ready_now.load(SeqCst)
    }
}
