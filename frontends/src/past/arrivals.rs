//! What comes late: every append is looked at, and kept in a bounded queue if a slot may have been evaluated without it.

use super::limits::LATE_ITEMS;
use parking_lot::{Condvar, Mutex, RwLock};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use storage::clock::Clock;
use storage::metrics::{Counter, Metrics};
use storage::model::TimeMs;
use storage::model::value::is_absent;
use storage::store::{FeedData, FeedItem, Layout, Watch};

/// Samples of one shard that came at one moment.
pub(super) struct Arrived {
    pub shard: u16,
    /// When they came.
    pub now: TimeMs,
    pub samples: Late,
}

/// Which samples.
pub(super) enum Late {
    /// A scrape's.
    Columns(Arc<Layout>, TimeMs, Arc<[f64]>),
    /// Single ones: slot, time.
    Single(Vec<(u32, TimeMs)>),
}

impl Late {
    /// Calls `each(slot, time)`.
    pub fn each(&self, mut each: impl FnMut(u32, TimeMs)) {
        match self {
            Late::Columns(layout, t, values) => {
                let there = layout.slots.iter().zip(values.iter()).filter(|(_, v)| !is_absent(**v));
                there.for_each(|(slot, _)| each(*slot, *t));
            }
            Late::Single(samples) => samples.iter().for_each(|(slot, t)| each(*slot, *t)),
        }
    }
}

/// When the slots of some rules are evaluated, and how far ahead of its slot such a rule looks.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Schedule {
    pub interval: i64,
    pub offset: i64,
    pub delay: i64,
    pub ahead: i64,
}

impl Schedule {
    /// The newest time that a slot has looked at that may be evaluated by `now`.
    fn seen(&self, now: TimeMs) -> TimeMs {
        let t = now - self.delay;
        t - (t - self.offset).rem_euclid(self.interval) + self.ahead
    }
}

#[derive(Default)]
struct Queue {
    items: Vec<Arrived>,
    overflown: bool,
    /// There is something to do that is not in this queue.
    woken: bool,
    ended: bool,
}

/// See the module.
pub(super) struct Arrivals {
    clock: Arc<dyn Clock>,
    schedules: RwLock<Vec<Schedule>>,
    queue: Mutex<Queue>,
    bell: Condvar,
    /// Who else hears that something has come.
    ring: OnceLock<Box<dyn Fn() + Send + Sync>>,
    overflows: Arc<Counter>,
}

impl Arrivals {
    /// Nothing is late before there are schedules.
    pub fn new(clock: Arc<dyn Clock>, metrics: &Metrics) -> Arrivals {
        let help = "Times that more samples came late than can wait: all that is within the bound was computed again.";
        let overflows = metrics.counter("perennial_late_samples_overflows_total", help, &[]);
        Arrivals {
            clock,
            schedules: RwLock::default(),
            queue: Mutex::default(),
            bell: Condvar::new(),
            ring: OnceLock::new(),
            overflows,
        }
    }

    /// See [`super::Lookout::ring_with`].
    pub fn ring_with(&self, ring: Box<dyn Fn() + Send + Sync>) {
        // Only the first one counts.
        let _ = self.ring.set(ring);
    }

    /// From now on these slots count.
    pub fn watch(&self, schedules: Vec<Schedule>) {
        *self.schedules.write() = schedules;
    }

    /// Counts that more came than somebody behind the queue can keep.
    pub fn overflown(&self) {
        self.overflows.inc();
    }

    /// What has come, and whether more has than was kept.
    pub fn take(&self) -> (Vec<Arrived>, bool) {
        let mut queue = self.queue.lock();
        queue.woken = false;
        (std::mem::take(&mut queue.items), std::mem::take(&mut queue.overflown))
    }

    /// Ends [`Arrivals::wait`] for this time, as something that has come does.
    pub fn wake(&self) {
        self.queue.lock().woken = true;
        self.bell.notify_all();
    }

    /// Sleeps until something has come (or does not wait for that, if there is something to do already), and a little
    /// more so that the rest of it has, too; `false`: it is over.
    pub fn wait(&self, settle: Duration, at_once: bool) -> bool {
        let mut queue = self.queue.lock();
        while !at_once && queue.items.is_empty() && !queue.overflown && !queue.woken && !queue.ended {
            self.bell.wait(&mut queue);
        }
        if !queue.ended {
            self.bell.wait_while_for(&mut queue, |queue| !queue.ended, settle);
        }
        !queue.ended
    }

    /// Ends [`Arrivals::wait`].
    pub fn end(&self) {
        self.queue.lock().ended = true;
        self.bell.notify_all();
    }

    fn push(&self, arrived: Arrived) {
        let mut queue = self.queue.lock();
        if queue.items.len() >= LATE_ITEMS {
            // All that is within the bound will be looked at again instead.
            queue.items.clear();
            queue.overflown = true;
            self.overflows.inc();
        }
        let first = queue.items.is_empty();
        queue.items.push(arrived);
        drop(queue);
        if first {
            self.bell.notify_all();
            self.ring.get().into_iter().for_each(|ring| ring());
        }
    }
}

impl Watch for Arrivals {
    fn look(&self, item: &FeedItem) {
        let now = self.clock.now();
        let Some(seen) = self.schedules.read().iter().map(|schedule| schedule.seen(now)).max() else {
            return;
        };
        let single = |times: &mut dyn Iterator<Item = (u32, TimeMs)>| {
            let late: Vec<(u32, TimeMs)> = times.filter(|(_, t)| *t <= seen).collect();
            (!late.is_empty()).then_some(Late::Single(late))
        };
        let late = match &item.data {
            FeedData::Columns(batch) => {
                (batch.t <= seen).then(|| Late::Columns(batch.layout.clone(), batch.t, batch.values.clone()))
            }
            FeedData::Rows(rows) => single(&mut rows.iter().map(|(slot, t, _)| (*slot, *t))),
            FeedData::Histograms(rows) => single(&mut rows.iter().map(|(slot, t, _)| (*slot, *t))),
            FeedData::Starts(rows) => single(&mut rows.iter().map(|(slot, t, _)| (*slot, *t))),
        };
        if let Some(samples) = late {
            self.push(Arrived { shard: item.shard, now, samples });
        }
    }
}
