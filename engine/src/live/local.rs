//! The local executor, one per worker: it evaluates the local stage of all views over the shards
//! that the worker owns.
//!
//! It receives samples and control messages, and each round returns what changed in its ports. It
//! does not depend on timely ([`super::dataflow`] drives it) or on a clock: ticks bring their time.

mod check;
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
use super::leaf::LeafConfig;
use super::message::{InstallBatchId, PortDelta, WorkerVote};
use super::store_query::PastReads;
use super::topology::WorkerTopology;
use super::views::{InstalledView, ReleasedView, ViewRequest, ViewTable};
use crate::limits::{OPENED_ROWS, SWEEP_MS};
use crate::operators::step_set::StepSet;
use crate::plan::Dialect;
use crate::plan::physical::{Leaf, SampleSource, StepId, StepOp};
use history_load::LoadResults;
use leaf_slot::LeafSlot;
use rings::RingTable;
use shard::LocalShard;
use spill::SpillManager;
use std::collections::BTreeSet;
use std::sync::Arc;
use storage::metrics::Counter;
use storage::model::{Matcher, SHARDS, TimeMs};
use storage::store::{ChangeEvent, Store};

/// Rings keep samples this much longer than their windows need, in ms, because ticks and samples
/// are not exactly in step.
pub const SLACK: i64 = 30_000;

/// The state of the local stage in one worker.
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
    /// Steps of views that began in this preparation: no tick since the previous one has evaluated
    /// them.
    begun: StepSet,
    /// Index of the shard whose new steps are evaluated next.
    opening: usize,
    /// Causes a tick soon.
    wake: Arc<dyn Fn() + Send + Sync>,
    store_reads: Arc<PastReads>,
    /// The view that this tick evaluates for a check.
    checked: Option<ViewId>,
    /// Rings were dropped in this tick.
    dropped: bool,
    /// When ended series were last counted.
    swept: TimeMs,
    /// Time of the latest tick.
    now: TimeMs,
}

impl LocalExecutor {
    /// The executor of the worker at `place`; the lookback is in ms. The counters: rows that
    /// evaluations read; selectors that began without their history.
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
            checked: None,
            dropped: false,
            opening: 0,
            swept: 0,
            now: TimeMs::MIN,
        }
    }

    /// Adds a view to an install batch.
    pub fn install(&mut self, id: ViewId, wanted: ViewRequest, cohort: InstallBatchId) {
        // The runtime has checked the plan before: every worker comes to the same result.
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
        let config = LeafConfig::new(source.clone(), leaf.clone(), self.lookback, self.dialect);
        let config = Arc::new(config);
        for shard in &mut self.shards {
            shard.expect(ring);
            shard.add_leaf(step, LeafSlot::new(config.clone(), ring));
        }
    }

    /// Removes a view.
    pub fn remove(&mut self, id: ViewId) {
        self.views.remove(id).into_iter().for_each(|gone| self.forget(gone));
    }

    /// Removes the steps that no view reads any more.
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
                // If no step of the shard ever had an annotation, the lists of `remarks` cannot
                // change.
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

    /// Has the state of all views that read a selector (`None`: any) built again from the store,
    /// without ended series. The views use their current state until that is done.
    pub fn renew(&mut self, selector: Option<&[Matcher]>, cohort: InstallBatchId) {
        self.rings.retire(selector);
        for (id, wanted) in self.views.retire(selector) {
            self.install(id, wanted, cohort);
        }
    }

    /// Begins the tick at `t`. With `all`, it waits until the history of all views that are being
    /// installed is read, and they begin.
    pub fn tick(&mut self, t: TimeMs, all: bool) {
        if t < self.now {
            // The clock was set back. The evaluated answers hold only until later times.
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
        // History for views that are being installed is put in place by preparations, not by ticks.
        if self.views.coming().next().is_none() {
            self.take_past(t, false, false);
        }
        self.tend_long_rings(t, false);
    }

    /// Works on views that are being installed, as of the previous tick; called after all messages
    /// of a preparation. Returns what changed in the ports.
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

    /// Requests missing history, and puts in place what has been read: all of it with `all`.
    fn fill(&mut self, all: bool) {
        if std::mem::take(&mut self.dropped) {
            self.shards.iter_mut().for_each(LocalShard::forget_routes);
        }
        let t = self.now;
        self.ask_past(t);
        // Before any view has begun, no tick is waiting.
        let at_once = all || !self.views.stands();
        self.take_past(t, all, at_once);
        self.tend_long_rings(t, all);
        self.open_steps(at_once);
    }

    /// Time of the latest tick.
    pub fn now(&self) -> TimeMs {
        self.now
    }

    /// Allows new steps to be evaluated for the first time, which reads all of their rows. One
    /// shard after the other, so that one preparation does not do all of it.
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

    /// Begins an install batch; `None`: all views that are being installed.
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

    /// The install batches that may begin as far as the shards of this worker are concerned.
    fn ready(&self) -> Vec<InstallBatchId> {
        let busy: Vec<&LocalShard> = self.shards.iter().filter(|shard| !shard.is_at_rest()).collect();
        let waits = |view: &InstalledView| busy.iter().any(|shard| shard.keeps_waiting(&view.local));
        let coming = self.views.coming().filter(|(cohort, _)| !self.store_reads.is_pending(*cohort));
        let ready =
            coming.filter_map(|(cohort, mut views)| (busy.is_empty() || !views.any(waits)).then_some(cohort));
        ready.collect()
    }

    /// Selectors in which too many ended series have accumulated. Checked about once a minute; at
    /// the same time the routes of targets that send nothing any more are forgotten.
    fn garbage(&mut self, t: TimeMs) -> Vec<Vec<Matcher>> {
        if (t - self.swept).abs() < SWEEP_MS {
            return Vec::new();
        }
        self.swept = t;
        for shard in &mut self.shards {
            shard.forget_silent(t);
            // A check that is under way is done again; one that is over needs none.
            shard.watch = None;
        }
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

    /// Whether there are no views, so that samples are of no use.
    pub fn is_idle(&self) -> bool {
        self.views.all.is_empty()
    }

    /// Takes samples of a shard that this worker owns. `t`: the tick they belong to.
    pub fn samples(&mut self, item: &ChangeEvent, t: TimeMs) {
        let Some(at) = self.shards.iter().position(|shard| shard.shard == item.shard) else { return };
        self.shards[at].take(&self.store, item, t, None);
        self.keep(at, item, t);
    }

    /// Number of the last round of the tick at `t`.
    pub fn last_round(&mut self, t: TimeMs) -> u64 {
        self.views.settle();
        let checked = self.checked_view().map_or(0, |view| view.level);
        self.views.last_round(t).max(checked)
    }

    /// Evaluates what is due in a round. Returns what changed, by port, shard and owner.
    pub fn round(&mut self, t: TimeMs, round: u64) -> Vec<PortDelta> {
        let mut due = StepSet::default();
        self.views.due(t, round).for_each(|batch| due.extend(&batch.local));
        if let Some(view) = self.checked_view().filter(|view| view.level == round) {
            due.extend(&view.local.iter().copied().collect());
        }
        self.meter.begin(t, self.views.local.len());
        let mut deltas = Vec::new();
        if round == 0 {
            deltas = said(self.garbage(t).into_iter().map(WorkerVote::Garbage).collect());
        }
        deltas.extend(self.eval(&due));
        tracing::debug!(target: "live::tick", t, round, deltas = deltas.len(), "a local stage is evaluated");
        // Not iterated in ticks that are not measured.
        let views = self.views.all.iter().filter(|(_, view)| view.level == round && view.slots.due(t));
        self.meter.book(t, &self.views.local, views.map(|(id, view)| (*id, view.local.as_slice())));
        deltas
    }

    /// Evaluates those of the steps whose inputs have changed, at the time of the latest tick.
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
            // After the new owners: only now does the cursor of a new port exist, and its
            // annotations can be sent.
            for port in shard.ports_with_new_annotations(due) {
                deltas.extend(self.views.port_owners(port).filter_map(|owner| shard.delta(port, owner)));
            }
        }
        self.rows_touched.add(touched as u64);
        deltas
    }
}

/// A message with votes for worker 0.
pub(super) fn said(verdicts: Vec<WorkerVote>) -> Vec<PortDelta> {
    if verdicts.is_empty() {
        Vec::new()
    } else {
        vec![PortDelta { owner: 0, port: u64::MAX, verdicts, ..PortDelta::default() }]
    }
}
