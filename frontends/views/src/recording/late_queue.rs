//! The queue of late samples. A *late sample* has arrived after a rule that may read it was
//! evaluated for its time. Every append to the store is checked; late samples wait here, bounded,
//! for [`super::late_samples`].

use super::limits::LATE_ITEMS;
use parking_lot::{Condvar, Mutex, RwLock};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use storage::clock::Clock;
use storage::metrics::{Counter, Metrics};
use storage::model::TimeMs;
use storage::model::value::is_absent;
use storage::store::{AppendObserver, ChangeData, ChangeEvent, ColumnLayout};

/// Samples of one shard that arrived at one moment.
pub(super) struct LateBatch {
    /// The shard of the series.
    pub shard: u16,
    /// When they arrived.
    pub now: TimeMs,
    /// What arrived late.
    pub samples: LateSamples,
}

/// Late samples as they were appended: by column or one by one.
pub(super) enum LateSamples {
    /// Those of a scrape.
    Columns(Arc<ColumnLayout>, TimeMs, Arc<[f64]>),
    /// Single ones: series slot, time.
    Single(Vec<(u32, TimeMs)>),
}

impl LateSamples {
    /// Calls `each(slot, time)`.
    pub(super) fn each(&self, mut each: impl FnMut(u32, TimeMs)) {
        match self {
            LateSamples::Columns(layout, t, values) => {
                for (slot, value) in layout.slots.iter().zip(values.iter()) {
                    if !is_absent(*value) {
                        each(*slot, *t);
                    }
                }
            }
            LateSamples::Single(samples) => {
                for (slot, t) in samples {
                    each(*slot, *t);
                }
            }
        }
    }
}

/// When some rules are evaluated, and how far after the evaluation time they read.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct RuleSchedule {
    pub interval: i64,
    pub offset: i64,
    pub delay: i64,
    pub look_ahead: i64,
}

impl RuleSchedule {
    /// The newest time that an evaluation by `now` may have read.
    fn seen(&self, now: TimeMs) -> TimeMs {
        // An evaluation at `t` reads up to `t`; with a negative offset (`offset -5m`) also what is
        // after it.
        let t = now - self.delay;
        t - (t - self.offset).rem_euclid(self.interval) + self.look_ahead
    }
}

#[derive(Default)]
struct LateQueueState {
    items: Vec<LateBatch>,
    overflowed: bool,
    /// There is work that is not in this queue.
    wake_requested: bool,
    ended: bool,
}

/// Late samples that wait until the recorded samples they change are computed again; bounded.
pub(super) struct LateSampleQueue {
    clock: Arc<dyn Clock>,
    schedules: RwLock<Vec<RuleSchedule>>,
    queue: Mutex<LateQueueState>,
    wakeup: Condvar,
    /// Called in addition when something has arrived.
    on_arrival: OnceLock<Box<dyn Fn() + Send + Sync>>,
    overflows: Arc<Counter>,
}

impl LateSampleQueue {
    /// Nothing is late before there are schedules.
    pub(super) fn new(clock: Arc<dyn Clock>, metrics: &Metrics) -> LateSampleQueue {
        let help = "Times that more samples came late than can wait: all that is within the bound was computed again.";
        let overflows = metrics.counter("perennial_late_samples_overflows_total", help, &[]);
        LateSampleQueue {
            clock,
            schedules: RwLock::default(),
            queue: Mutex::default(),
            wakeup: Condvar::new(),
            on_arrival: OnceLock::new(),
            overflows,
        }
    }

    /// See [`super::LateSampleMonitor`].
    pub(super) fn set_on_arrival(&self, on_arrival: Box<dyn Fn() + Send + Sync>) {
        // Only the first one counts.
        let _ = self.on_arrival.set(on_arrival);
    }

    /// Sets the schedules.
    pub(super) fn watch(&self, schedules: Vec<RuleSchedule>) {
        *self.schedules.write() = schedules;
    }

    /// Counts an overflow in a reader of the queue.
    pub(super) fn overflown(&self) {
        self.overflows.inc();
    }

    /// Removes and returns what has arrived, and whether something was dropped.
    pub(super) fn take(&self) -> (Vec<LateBatch>, bool) {
        let mut queue = self.queue.lock();
        queue.wake_requested = false;
        (std::mem::take(&mut queue.items), std::mem::take(&mut queue.overflowed))
    }

    /// Ends the current [`LateSampleQueue::wait`], as an arrival does.
    pub(super) fn wake(&self) {
        self.queue.lock().wake_requested = true;
        self.wakeup.notify_all();
    }

    /// Sleeps until something has arrived (with `at_once` not at all), and then a little longer so
    /// that more arrives. `false`: the queue was ended.
    pub(super) fn wait(&self, settle: Duration, at_once: bool) -> bool {
        let mut queue = self.queue.lock();
        while !at_once && queue.items.is_empty() && !queue.overflowed && !queue.wake_requested && !queue.ended
        {
            self.wakeup.wait(&mut queue);
        }
        if !queue.ended {
            // Late samples come in bursts, such as a retried remote write: one correction for all
            // of them.
            self.wakeup.wait_while_for(&mut queue, |queue| !queue.ended, settle);
        }
        !queue.ended
    }

    /// Ends [`LateSampleQueue::wait`] for good.
    pub(super) fn end(&self) {
        self.queue.lock().ended = true;
        self.wakeup.notify_all();
    }

    fn push(&self, arrived: LateBatch) {
        let mut queue = self.queue.lock();
        if queue.items.len() >= LATE_ITEMS {
            // Everything within the bound is computed again instead.
            queue.items.clear();
            queue.overflowed = true;
            self.overflows.inc();
        }
        // Only the first wakes: this is called for every append, under the lock of its shard.
        let first = queue.items.is_empty();
        queue.items.push(arrived);
        drop(queue);
        if first {
            self.wakeup.notify_all();
            if let Some(on_arrival) = self.on_arrival.get() {
                on_arrival();
            }
        }
    }
}

impl AppendObserver for LateSampleQueue {
    fn check_time(&self, item: &ChangeEvent) {
        // On the thread that appends: a moment later the sample would look late although no
        // evaluation was in between.
        let now = self.clock.now();
        let Some(seen) = self.schedules.read().iter().map(|schedule| schedule.seen(now)).max() else {
            return;
        };
        let single = |times: &mut dyn Iterator<Item = (u32, TimeMs)>| {
            let late: Vec<(u32, TimeMs)> = times.filter(|(_, t)| *t <= seen).collect();
            (!late.is_empty()).then_some(LateSamples::Single(late))
        };
        let late = match &item.data {
            ChangeData::Columns(batch) => (batch.t <= seen)
                .then(|| LateSamples::Columns(batch.layout.clone(), batch.t, batch.values.clone())),
            ChangeData::Rows(rows) => single(&mut rows.iter().map(|(slot, t, _)| (*slot, *t))),
            ChangeData::Histograms(rows) => single(&mut rows.iter().map(|(slot, t, _)| (*slot, *t))),
            ChangeData::Starts(rows) => single(&mut rows.iter().map(|(slot, t, _)| (*slot, *t))),
        };
        if let Some(samples) = late {
            self.push(LateBatch { shard: item.shard, now, samples });
        }
    }
}
