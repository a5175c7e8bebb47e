//! Late samples (those that arrived after the rules that read them were evaluated) of this process'
//! store, by the selectors that match them.
//!
//! In process 0 the corrector reads them here. The other processes of a cluster have no rules:
//! process 0 sends them what to watch and polls for reports ([`super::remote`] is its side). A
//! report is kept until process 0 has received it, so nothing is lost if the poll fails half-way.

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

/// Process 0 during one poll, as another process sees it.
///
/// # Contract
/// 1. When `deliver` has returned `Ok`, process 0 has the report: it is not sent again. After an
///    error it may have it or not, and gets it again; counting a late sample twice only repeats
///    work.
/// 2. Both may block for as long as a poll may last.
pub trait LateSampleExchange {
    /// Gets the current watch list, which has changed.
    fn watched(&mut self) -> Result<WatchList, QueryError>;
    /// Sends the report. Returns when process 0 has received it.
    fn deliver(&mut self, report: &LateSampleReport) -> Result<(), QueryError>;
}

/// Watches the appends to the store of this process.
pub struct LateSampleMonitor {
    store: Arc<Store>,
    pub(super) arrivals: Arc<LateSampleQueue>,
    state: Mutex<MonitorState>,
    /// What was not reported yet; one poll at a time.
    unsent: Mutex<UnsentReport>,
}

#[derive(Default)]
struct MonitorState {
    selectors: SelectorIndex,
    /// The selectors that match a series, by shard and series slot.
    selectors_by_series: HashMap<(u16, u32), SelectorIds>,
}

/// A report that was not delivered yet.
#[derive(Default)]
struct UnsentReport {
    /// Number of its watch list.
    number: u64,
    /// The number of samples by selector, time, and time of arrival.
    items: BTreeMap<(u32, TimeMs, TimeMs), u64>,
    overflown: bool,
}

impl LateSampleMonitor {
    /// From now on every append to `store` is checked; nothing is late before something is watched.
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>, metrics: &Metrics) -> LateSampleMonitor {
        let arrivals = Arc::new(LateSampleQueue::new(clock, metrics));
        store.subscribers().set_observer(arrivals.clone());
        LateSampleMonitor { store, arrivals, state: Mutex::default(), unsent: Mutex::default() }
    }

    /// Sets a callback for the first arrival since the last poll. It is called under a shard's
    /// lock, so it must not block.
    pub fn set_on_arrival(&self, on_arrival: Box<dyn Fn() + Send + Sync>) {
        self.arrivals.set_on_arrival(on_arrival);
    }

    /// Sets what is watched.
    pub(super) fn watch(&self, watched: &WatchList) {
        let mut state = self.state.lock();
        *state = MonitorState {
            selectors: SelectorIndex::new(&watched.selectors),
            selectors_by_series: HashMap::new(),
        };
        self.arrivals.watch(watched.schedules.clone());
    }

    /// Calls `each(selectors, time, time of arrival)` for the late samples. Returns whether some
    /// were dropped.
    pub(super) fn take(&self, mut each: impl FnMut(&[u32], TimeMs, TimeMs)) -> bool {
        let mut state = self.state.lock();
        let (arrived, overflown) = self.arrivals.take();
        for LateBatch { shard, now, samples } in arrived {
            let MonitorState { selectors, selectors_by_series: known } = &mut *state;
            if known.len() > KNOWN_SERIES {
                known.clear();
            }
            samples.each(|slot, t| {
                let labels = || self.store.series().labels(SeriesRef { shard, slot });
                let seen = known.entry((shard, slot)).or_insert_with(|| selectors.seen(&labels()));
                if !seen.is_empty() {
                    each(seen, t, now);
                }
            });
        }
        overflown
    }

    /// Answers process 0, whose watch list has this number.
    pub fn answer(&self, number: u64, asker: &mut dyn LateSampleExchange) -> Result<(), QueryError> {
        let mut untold = self.unsent.lock();
        if untold.number != number {
            let watched = asker.watched()?;
            // Undelivered items belong to other selectors; samples still in the queue are reported
            // with the new ones.
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
