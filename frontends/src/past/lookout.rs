//! What comes late to the store of this process, told by the selectors that see it.
//!
//! Where rules stand, the corrector takes it from here. Another process of a cluster has rules of its own none: there
//! process 0 says what is to be watched and asks for reports ([`super::elsewhere`] is its side). A report is kept until
//! whoever asked has it, so nothing is lost if the question fails half-way.

use super::arrivals::{Arrivals, Arrived};
use super::elsewhere::{Item, Report, Watched};
use super::limits::{KNOWN_SERIES, REPORT_ITEMS};
use super::selectors::{Seen, Selectors};
use engine::query::QueryError;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use storage::clock::Clock;
use storage::metrics::Metrics;
use storage::model::{SeriesRef, TimeMs};
use storage::store::Store;

/// Process 0, as another process talks to it during one question.
pub trait Asker {
    /// Has it say what is to be watched: that is news here.
    fn watched(&mut self) -> Result<Watched, QueryError>;
    /// Gives it the report; returns when it has it.
    fn tell(&mut self, report: &Report) -> Result<(), QueryError>;
}

/// See the module.
pub struct Lookout {
    store: Arc<Store>,
    pub(super) arrivals: Arc<Arrivals>,
    state: Mutex<State>,
    /// What was not told yet; one question at a time.
    untold: Mutex<Untold>,
}

#[derive(Default)]
struct State {
    selectors: Selectors,
    /// The selectors that series are in, by shard and slot.
    known: HashMap<(u16, u32), Seen>,
}

/// A report on its way.
#[derive(Default)]
struct Untold {
    /// Which list of selectors it speaks of.
    number: u64,
    /// Selector, time and when it came: how many samples.
    items: BTreeMap<(u32, TimeMs, TimeMs), u64>,
    overflown: bool,
}

impl Lookout {
    /// From now on every append to `store` is looked at; nothing is late before something is watched.
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>, metrics: &Metrics) -> Lookout {
        let arrivals = Arc::new(Arrivals::new(clock, metrics));
        store.set_watch(arrivals.clone());
        Lookout { store, arrivals, state: Mutex::default(), untold: Mutex::default() }
    }

    /// `ring` is called when something has come and nothing had since it was last asked for. It is called under a shard's
    /// lock: must not wait.
    pub fn ring_with(&self, ring: Box<dyn Fn() + Send + Sync>) {
        self.arrivals.ring_with(ring);
    }

    /// From now on this counts.
    pub(super) fn watch(&self, watched: &Watched) {
        let mut state = self.state.lock();
        *state = State { selectors: Selectors::of(&watched.selectors), known: HashMap::new() };
        self.arrivals.watch(watched.schedules.clone());
    }

    /// Calls `each(selectors, time, when it came)` for what has come late; whether more has than was kept.
    pub(super) fn take(&self, mut each: impl FnMut(&[u32], TimeMs, TimeMs)) -> bool {
        let mut state = self.state.lock();
        let (arrived, overflown) = self.arrivals.take();
        for Arrived { shard, now, samples } in arrived {
            let State { selectors, known } = &mut *state;
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
    pub fn answer(&self, number: u64, asker: &mut dyn Asker) -> Result<(), QueryError> {
        let mut untold = self.untold.lock();
        if untold.number != number {
            let watched = asker.watched()?;
            // What is not told speaks of other selectors; what still waits is told by the new ones.
            let overflown = untold.overflown || !untold.items.is_empty();
            *untold = Untold { number: watched.number, overflown, ..Untold::default() };
            self.watch(&watched);
        }
        let Untold { items, overflown, .. } = &mut *untold;
        let mut full = false;
        let more = self.take(|seen, t, now| {
            for selector in seen {
                match items.len() < REPORT_ITEMS {
                    true => *items.entry((*selector, t, now)).or_default() += 1,
                    false => full = true,
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
        asker.tell(&untold.report())?;
        *untold = Untold { number: untold.number, ..Untold::default() };
        Ok(())
    }
}

impl Untold {
    fn report(&self) -> Report {
        let item = |((selector, t, now), count): (&(u32, TimeMs, TimeMs), &u64)| Item {
            selector: *selector,
            t: *t,
            now: *now,
            count: *count,
        };
        Report { items: self.items.iter().map(item).collect(), overflown: self.overflown }
    }
}
