//! What comes late to the store of this process, told by the selectors that see it.
//!
//! Where rules stand, the corrector takes it from here. Another process of a cluster has rules of
//! its own none: there process 0 says what is to be watched and asks for reports ([`super::remote`]
//! is its side). A report is kept until whoever asked has it, so nothing is lost if the question
//! fails half-way.

use super::late_queue::{LateBatch, LateSampleQueue};
use super::limits::{KNOWN_SERIES, REPORT_ITEMS};
use super::remote::{LateSampleCount, LateSampleReport, WatchList};
use super::selector_index::{SelectorIds, SelectorIndex};
use engine::query::QueryError;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use storage::clock::Clock;
use storage::metrics::Metrics;
use storage::model::{SeriesRef, TimeMs};
use storage::store::Store;

/// Process 0, as another process talks to it during one question.
pub trait LateSampleExchange {
    /// Has it say what is to be watched: that is news here.
    fn watched(&mut self) -> Result<WatchList, QueryError>;
    /// Gives it the report; returns when it has it.
    fn deliver(&mut self, report: &LateSampleReport) -> Result<(), QueryError>;
}

/// See the module.
pub struct LateSampleMonitor {
    store: Arc<Store>,
    pub(super) arrivals: Arc<LateSampleQueue>,
    state: Mutex<MonitorState>,
    /// What was not told yet; one question at a time.
    unsent: Mutex<UnsentReport>,
}

#[derive(Default)]
struct MonitorState {
    selectors: SelectorIndex,
    /// The selectors that series are in, by shard and slot.
    selectors_by_series: HashMap<(u16, u32), SelectorIds>,
}

/// A report on its way.
#[derive(Default)]
struct UnsentReport {
    /// Which list of selectors it speaks of.
    number: u64,
    /// Selector, time and when it came: how many samples.
    items: BTreeMap<(u32, TimeMs, TimeMs), u64>,
    overflown: bool,
}

impl LateSampleMonitor {
    /// From now on every append to `store` is looked at; nothing is late before something is watched.
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>, metrics: &Metrics) -> LateSampleMonitor {
        let arrivals = Arc::new(LateSampleQueue::new(clock, metrics));
        store.set_watch(arrivals.clone());
        LateSampleMonitor { store, arrivals, state: Mutex::default(), unsent: Mutex::default() }
    }

    /// `ring` is called when something has come and nothing had since it was last asked for. It is
    /// called under a shard's lock: must not wait.
    pub fn ring_with(&self, ring: Box<dyn Fn() + Send + Sync>) {
        self.arrivals.set_on_arrival(ring);
    }

    /// From now on this counts.
    pub(super) fn watch(&self, watched: &WatchList) {
        let mut state = self.state.lock();
        *state = MonitorState {
            selectors: SelectorIndex::of(&watched.selectors),
            selectors_by_series: HashMap::new(),
        };
        self.arrivals.watch(watched.schedules.clone());
    }

    /// Calls `each(selectors, time, when it came)` for what has come late; whether more has than was kept.
    pub(super) fn take(&self, mut each: impl FnMut(&[u32], TimeMs, TimeMs)) -> bool {
        let mut state = self.state.lock();
        let (arrived, overflown) = self.arrivals.take();
        for LateBatch { shard, now, samples } in arrived {
            let MonitorState { selectors, selectors_by_series: known } = &mut *state;
            if known.len() > KNOWN_SERIES {
                known.clear();
            }
            samples.each(|slot, t| {
                let labels = || self.store.labels(SeriesRef { shard, slot });
                let seen = known.entry((shard, slot)).or_insert_with(|| selectors.seen(&labels()));
                if !seen.is_empty() {
                    each(seen, t, now);
                }
            });
        }
        overflown
    }

    /// Answers process 0, which goes by the list of selectors with this number.
    pub fn answer(&self, number: u64, asker: &mut dyn LateSampleExchange) -> Result<(), QueryError> {
        let mut untold = self.unsent.lock();
        if untold.number != number {
            let watched = asker.watched()?;
            // What is not told speaks of other selectors; what still waits is told by the new ones.
            let overflown = untold.overflown || !untold.items.is_empty();
            *untold = UnsentReport { number: watched.number, overflown, ..UnsentReport::default() };
            self.watch(&watched);
        }
        let UnsentReport { items, overflown, .. } = &mut *untold;
        let mut full = false;
        let more = self.take(|seen, t, now| {
            for selector in seen {
                if items.len() < REPORT_ITEMS {
                    *items.entry((*selector, t, now)).or_default() += 1
                } else {
                    full = true
                }
            }
        });
        if full {
            self.arrivals.overflown();
        }
        if full || more {
            items.clear();
            *overflown = true;
        }
        asker.deliver(&untold.report())?;
        *untold = UnsentReport { number: untold.number, ..UnsentReport::default() };
        Ok(())
    }
}

impl UnsentReport {
    fn report(&self) -> LateSampleReport {
        let item = |((selector, t, now), count): (&(u32, TimeMs, TimeMs), &u64)| LateSampleCount {
            selector: *selector,
            t: *t,
            now: *now,
            count: *count,
        };
        LateSampleReport { items: self.items.iter().map(item).collect(), overflown: self.overflown }
    }
}
