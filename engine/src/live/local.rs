//! The local host: one per worker, the local stage of all views over the shards it owns.
//!
//! It takes samples and control messages, and at each round hands out what changed in its ports. It knows
//! nothing of timely ([`super::dataflow`] drives it) and of no clock: ticks come to it.

mod describe;
mod eval;
mod history_load;
mod leaf_slot;
mod ports;
mod rings;
mod shard;
mod spill;
mod timers;

pub use history_load::HistoryLoader;

use super::ViewId;
use super::cost::{CostLedger, StepTimer};
use super::message::{InstallBatchId, PortDelta, WorkerVote};
use super::store_query::PastReads;
use super::topology::WorkerTopology;
use super::views::{InstalledView, ReleasedView, ViewRequest, ViewTable};
use crate::limits::{OPENED_ROWS, SWEEP_MS};
use crate::operators::step_set::StepSet;
use crate::plan::Dialect;
use crate::plan::physical::{Leaf, SampleSource, StepId, StepOp};
use history_load::LoadResults;
use leaf_slot::{LeafSlot, LeafSpec};
use rings::RingTable;
use shard::LocalShard;
use spill::SpillManager;
use std::collections::BTreeSet;
use std::sync::Arc;
use storage::metrics::Counter;
use storage::model::{Matcher, SHARDS, TimeMs};
use storage::store::{ChangeEvent, Store};

/// Rings keep this much more than their windows, ms: ticks and samples are not quite in step.
pub const SLACK: i64 = 30_000;

/// See the module.
pub struct LocalExecutor {
    store: Arc<Store>,
    lookback: i64,
    dialect: Dialect,
    views: ViewTable,
    shards: Vec<LocalShard>,
    rings: RingTable,
    meter: StepTimer,
    rows_touched: Arc<Counter>,
    without_past: Arc<Counter>,
    reader: LoadResults,
    spiller: SpillManager,
    /// Rings that could not be read from the store.
    failed: BTreeSet<usize>,
    /// Steps of views that began in this preparation: ticks since the one before did not evaluate them.
    begun: StepSet,
    /// The shard whose new steps are opened next.
    opening: usize,
    /// Makes the next tick come soon.
    wake: Arc<dyn Fn() + Send + Sync>,
    store_reads: Arc<PastReads>,
    /// Rings have been dropped in this tick.
    dropped: bool,
    /// When dead rows were last counted.
    swept: TimeMs,
    /// The latest tick.
    now: TimeMs,
}

impl LocalExecutor {
    /// The host of the worker at `topology`, with the lookback in ms. The counters: rows that
    /// evaluations looked at; selectors that started without their past.
    pub fn new(
        place: WorkerTopology,
        (store, library): (Arc<Store>, HistoryLoader),
        (lookback, dialect): (i64, Dialect),
        ledger: Arc<CostLedger>,
        [rows_touched, without_past]: [Arc<Counter>; 2],
    ) -> LocalExecutor {
        let shards = (0..SHARDS).filter(|shard| place.owns(*shard));
        let shards =
            shards.map(|shard| LocalShard::new((shard, place.global_shard(shard)), dialect)).collect();
        let spiller = SpillManager::new(library.clone());
        LocalExecutor {
            store,
            lookback,
            dialect,
            views: ViewTable::new(place, dialect),
            shards,
            rings: RingTable::new(spiller.bounds()),
            meter: StepTimer::new(ledger),
            rows_touched,
            without_past,
            wake: library.wake.clone(),
            store_reads: library.store_reads.clone(),
            reader: LoadResults::new(library),
            spiller,
            failed: BTreeSet::new(),
            begun: StepSet::default(),
            dropped: false,
            opening: 0,
            swept: 0,
            now: TimeMs::MIN,
        }
    }

    /// Makes a view come, in a cohort.
    pub fn install(&mut self, id: ViewId, wanted: ViewRequest, cohort: InstallBatchId) {
        // The handle has checked the plan: every worker comes to the same verdict.
        let Ok(added) = self.views.install(id, wanted, cohort) else { return };
        for step in added.local {
            let Some(step_ref) = self.views.local.step(step).cloned() else { continue };
            for shard in &mut self.shards {
                shard.stage.put(step, step_ref.clone());
                shard.shut.insert(step);
            }
            if let StepOp::Leaf(source, leaf) = &step_ref.op {
                self.add_leaf(step, source, leaf);
            }
        }
        for (port, owner) in added.ports {
            self.shards.iter_mut().for_each(|shard| shard.greet.push((port, owner)));
        }
        added.gone.into_iter().for_each(|gone| self.forget(gone));
    }

    fn add_leaf(&mut self, step: StepId, source: &SampleSource, leaf: &Leaf) {
        let retention = source.reach(leaf, self.lookback).0 + source.offset + SLACK;
        let ring = self.rings.acquire(&source.matchers, retention);
        let spec = Arc::new(LeafSpec {
            source: source.clone(),
            leaf: leaf.clone(),
            lookback: self.lookback,
            dialect: self.dialect,
        });
        for shard in &mut self.shards {
            shard.expect(ring);
            shard.add_leaf(step, LeafSlot::new(spec.clone(), ring));
        }
    }

    /// Removes a view.
    pub fn remove(&mut self, id: ViewId) {
        self.views.remove(id).into_iter().for_each(|gone| self.forget(gone));
    }

    /// Takes the steps away that nobody reads any more.
    fn forget(&mut self, gone: ReleasedView) {
        for port in gone.unheard {
            for shard in &mut self.shards {
                shard.sent.remove(&(port, gone.view.owner));
                shard.greet.retain(|greet| *greet != (port, gone.view.owner));
            }
        }
        for (step, _) in gone.local {
            let mut ring = None;
            for shard in &mut self.shards {
                shard.stage.remove(step);
                shard.shut.remove(step);
                // Where nothing was ever remarked there is nothing to find again.
                shard.remarks_stand &= shard.noted.is_empty();
                shard.noted.retain(|noted| *noted != step);
                ring = shard.remove_leaf(step).or(ring);
            }
            if let Some(freed) = ring.and_then(|ring| self.rings.release(ring)) {
                self.shards.iter_mut().for_each(|shard| shard.drop_ring(freed));
                self.dropped = true;
            }
        }
    }

    /// Builds the state of all views that read a selector (`None`: any) anew from the store,
    /// without what has ended. They stand on what they have until that is done.
    pub fn renew(&mut self, selector: Option<&[Matcher]>, cohort: InstallBatchId) {
        self.rings.retire(selector);
        for (id, wanted) in self.views.retire(selector) {
            self.install(id, wanted, cohort);
        }
    }

    /// A tick at `t` begins. With `all`, it waits until the past of whatever is coming has been
    /// read, and that stands from now on.
    pub fn tick(&mut self, t: TimeMs, all: bool) {
        if t < self.now {
            // What was seen holds until later times only.
            self.shards.iter_mut().for_each(LocalShard::reset_all);
            self.rings.want_all();
        }
        self.now = t;
        if all {
            self.fill(true);
            self.begin(None);
            return;
        }
        self.ask_past(t);
        // What is read for views that are coming is taken by preparations.
        if self.views.coming().next().is_none() {
            self.take_past(t, false, false);
        }
        self.tend_long_rings(t, false);
    }

    /// All messages of a preparation have been handled: works on what is coming, as of the tick
    /// before. Returns what changed in its ports.
    pub fn prepare(&mut self) -> Vec<PortDelta> {
        self.fill(false);
        self.views.settle();
        let mut due = self.views.coming_steps().0.clone();
        due.extend(&std::mem::take(&mut self.begun));
        let mut deltas = said(self.ready().into_iter().map(WorkerVote::Ready).collect());
        deltas.extend(self.eval(&due));
        self.tend_full_rings();
        deltas
    }

    /// Has read what is missing and takes what has been read: with `all`, everything.
    fn fill(&mut self, all: bool) {
        if std::mem::take(&mut self.dropped) {
            self.shards.iter_mut().for_each(LocalShard::forget_routes);
        }
        let t = self.now;
        self.ask_past(t);
        // While nothing stands there is nobody to disturb.
        let at_once = all || !self.views.stands();
        self.take_past(t, all, at_once);
        self.tend_long_rings(t, all);
        self.open_steps(at_once);
    }

    /// The time of the latest tick.
    pub fn now(&self) -> TimeMs {
        self.now
    }

    /// Lets new steps be evaluated for the first time, which looks at all of their rows: one shard
    /// after the other, so that one preparation does not do all of it.
    fn open_steps(&mut self, at_once: bool) {
        let mut spent = 0;
        for _ in 0..self.shards.len() {
            let shard = &mut self.shards[self.opening];
            if !at_once && spent > OPENED_ROWS {
                (self.wake)();
                return;
            }
            spent += shard.open();
            self.opening = (self.opening + 1) % self.shards.len();
        }
    }

    /// A cohort stands from now on; `None`: whatever is coming.
    pub fn begin(&mut self, cohort: Option<InstallBatchId>) {
        for (id, gone) in self.views.begin(cohort) {
            for gone in gone.into_iter() {
                self.forget(gone);
            }
            let view = self.views.all.get(&id).filter(|_| cohort.is_some());
            for view in view.into_iter() {
                self.begun.extend(&view.local.iter().copied().collect());
            }
        }
    }

    /// The cohorts that may begin as far as this worker's shards go.
    fn ready(&self) -> Vec<InstallBatchId> {
        let busy: Vec<&LocalShard> = self.shards.iter().filter(|shard| !shard.is_at_rest()).collect();
        let waits = |view: &InstalledView| busy.iter().any(|shard| shard.keeps_waiting(&view.local));
        let coming = self.views.coming().filter(|(cohort, _)| !self.store_reads.is_pending(*cohort));
        let ready =
            coming.filter_map(|(cohort, mut views)| (busy.is_empty() || !views.any(waits)).then_some(cohort));
        ready.collect()
    }

    /// Selectors in which ended series have piled up. Looks about once a minute of ticks, and
    /// forgets who is silent.
    fn garbage(&mut self, t: TimeMs) -> Vec<Vec<Matcher>> {
        if (t - self.swept).abs() < SWEEP_MS {
            return Vec::new();
        }
        self.swept = t;
        self.shards.iter_mut().for_each(|shard| shard.forget_silent(t));
        let piled_up = |ring: usize| {
            let rings = self.shards.iter().filter_map(|shard| shard.rings.get(ring)?.as_ref());
            rings.into_iter().any(|ring| ring.is_garbage(t))
        };
        self.rings
            .current()
            .filter(|(_, ring)| piled_up(*ring))
            .map(|(matchers, _)| matchers.to_vec())
            .collect()
    }

    /// Whether nothing stands or comes, and samples are of no use.
    pub fn is_idle(&self) -> bool {
        self.views.all.is_empty()
    }

    /// Takes samples of a shard this worker owns. `t`: the tick they belong to.
    pub fn samples(&mut self, item: &ChangeEvent, t: TimeMs) {
        let Some(at) = self.shards.iter().position(|shard| shard.shard == item.shard) else { return };
        self.shards[at].take(&self.store, item, t, None);
        self.keep(at, item, t);
    }

    /// The last round of the tick at `t`.
    pub fn last_round(&mut self, t: TimeMs) -> u64 {
        self.views.settle();
        self.views.last_round(t)
    }

    /// Evaluates what is due in a round; returns what changed, per port, shard and owner.
    pub fn round(&mut self, t: TimeMs, round: u64) -> Vec<PortDelta> {
        let mut due = StepSet::default();
        self.views.due(t, round).for_each(|batch| due.extend(&batch.local));
        self.meter.begin(t, self.views.local.len());
        let mut deltas = Vec::new();
        if round == 0 {
            deltas = said(self.garbage(t).into_iter().map(WorkerVote::Garbage).collect());
        }
        deltas.extend(self.eval(&due));
        // Walked only in the ticks that are measured.
        let views = self.views.all.iter().filter(|(_, view)| view.level == round && view.slots.due(t));
        self.meter.book(t, &self.views.local, views.map(|(id, view)| (*id, view.local.as_slice())));
        deltas
    }

    /// Evaluates these steps, as far as they are dirty, at the time of the latest tick.
    fn eval(&mut self, due: &StepSet) -> Vec<PortDelta> {
        let mut touched = 0;
        let mut deltas = Vec::new();
        for shard in &mut self.shards {
            let open = (!shard.shut.is_empty()).then(|| due.without(&shard.shut));
            touched += shard.eval(open.as_ref().unwrap_or(due), self.now, &mut self.meter);
            for port in std::mem::take(&mut shard.changed) {
                deltas.extend(self.views.port_owners(port).filter_map(|owner| shard.delta(port, owner)));
                self.meter.step(port);
            }
            let (greet, later) = shard.greet.drain(..).partition(|(port, _)| due.contains(*port));
            shard.greet = later;
            let greet: Vec<(StepId, usize)> = greet;
            deltas.extend(greet.into_iter().filter_map(|(port, owner)| shard.delta(port, owner)));
            // Last: a port that was greeted only now has its notes still to say.
            for port in shard.ports_with_new_annotations(due) {
                deltas.extend(self.views.port_owners(port).filter_map(|owner| shard.delta(port, owner)));
            }
        }
        self.rows_touched.add(touched as u64);
        deltas
    }
}

/// What worker 0 should hear.
pub(super) fn said(verdicts: Vec<WorkerVote>) -> Vec<PortDelta> {
    if verdicts.is_empty() {
        Vec::new()
    } else {
        vec![PortDelta { owner: 0, port: u64::MAX, verdicts, ..PortDelta::default() }]
    }
}
