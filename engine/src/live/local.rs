//! The local executor, one per worker thread: it evaluates the local stage of all views (what reads
//! samples, and what can be computed from the series of one shard) over the shards that the worker
//! owns.
//!
//! It receives samples and control messages, and each round of a tick returns what changed in its
//! ports (the steps whose rows the gather stage needs). It does not depend on timely
//! ([`super::dataflow`] drives it) or on a clock: ticks bring their time. [`shard`] is the state of
//! one shard; [`crate::live`] explains the words.

mod check;
mod describe;
mod eval;
mod history_load;
mod leaf_slot;
mod leaf_table;
mod ports;
mod rings;
mod sample_routes;
mod shard;
mod shard_rings;
mod spill;
mod step_opening;
mod timers;

pub use history_load::HistoryLoader;

use super::ViewId;
use super::cost::{CostLedger, StepTimer};
use super::leaf::LeafConfig;
use super::message::{InstallBatchId, PortDelta, WorkerVote};
use super::sweep_clock::SweepClock;
use super::topology::WorkerTopology;
use super::views::{InstalledView, ReleasedView, ViewRequest, ViewTable};
use crate::operators::step_set::StepSet;
use crate::plan::Dialect;
use crate::plan::physical::{Leaf, SampleSource, StepId, StepOp};
use history_load::LoadResults;
use leaf_slot::LeafSlot;
use ports::PortReader;
use rings::RingTable;
use shard::LocalShard;
use spill::SpillManager;
use std::sync::Arc;
use step_opening::StepOpening;
use storage::metrics::Counter;
use storage::model::{Matcher, SHARDS, TimeMs};
use storage::store::{ChangeEvent, Store};

/// Rings keep samples this much longer than their windows need, in ms, because ticks and samples
/// are not exactly in step.
pub const RING_SLACK_MS: i64 = 30_000;

/// What a local executor works with. The workers of a process share it.
#[derive(Clone)]
pub struct LocalServices {
    /// The store whose samples it evaluates.
    pub store: Arc<Store>,
    /// Reads the history of rings.
    pub history: HistoryLoader,
    /// How far back an instant selector looks, in ms.
    pub lookback: i64,
    /// The feature flags of the query language that change results.
    pub dialect: Dialect,
    /// Gets the cost of evaluations.
    pub ledger: Arc<CostLedger>,
    /// What it counts.
    pub counters: LocalCounters,
}

/// The counters of a local executor.
#[derive(Clone)]
pub struct LocalCounters {
    /// Rows that evaluations read.
    pub rows_touched: Arc<Counter>,
    /// Selectors that began without their history.
    pub without_history: Arc<Counter>,
}

/// The state of the local stage in one worker.
pub struct LocalExecutor {
    store: Arc<Store>,
    /// How far back an instant selector looks, in ms.
    lookback: i64,
    dialect: Dialect,
    /// Which views there are, and which steps each of them has.
    views: ViewTable,
    /// The samples and the steps of each shard of this worker.
    shards: Vec<LocalShard>,
    /// Which selector has which ring.
    rings: RingTable,
    /// What is being read of the history of rings, and what has been read.
    loads: LoadResults,
    /// Which rows of long rings are in memory.
    spiller: SpillManager,
    /// The first evaluations of new steps.
    opening: StepOpening,
    /// The time that evaluations take.
    meter: StepTimer,
    counters: LocalCounters,
    /// The view that this tick evaluates for a check.
    checked: Option<ViewId>,
    /// When ended series were last counted.
    sweep: SweepClock,
    /// Time of the latest tick.
    now: TimeMs,
}

impl LocalExecutor {
    /// The executor of the worker at `topology`.
    pub fn new(topology: WorkerTopology, services: LocalServices) -> LocalExecutor {
        let LocalServices { store, history, lookback, dialect, ledger, counters } = services;
        let owned = (0..SHARDS).filter(|shard| topology.owns(*shard));
        let shards = owned.map(|shard| LocalShard::new(shard, topology, dialect)).collect();
        let spiller = SpillManager::new(history.clone());
        LocalExecutor {
            store,
            lookback,
            dialect,
            views: ViewTable::new(topology, dialect),
            shards,
            rings: RingTable::new(spiller.bounds()),
            loads: LoadResults::new(history),
            spiller,
            opening: StepOpening::default(),
            meter: StepTimer::new(ledger),
            counters,
            checked: None,
            sweep: SweepClock::default(),
            now: TimeMs::MIN,
        }
    }

    /// Adds a view to an install batch.
    pub fn install(&mut self, id: ViewId, request: ViewRequest, batch: InstallBatchId) {
        // The runtime has checked the plan before: every worker comes to the same result.
        let Ok(added) = self.views.install(id, request, batch) else { return };
        for id in added.local {
            let Some(step) = self.views.local.step(id).cloned() else { continue };
            for shard in &mut self.shards {
                shard.add_step(id, step.clone());
            }
            if let StepOp::Leaf(source, leaf) = &step.op {
                self.add_leaf(id, source, leaf);
            }
        }
        for (port, owner) in added.ports {
            for shard in &mut self.shards {
                shard.outbox.add_reader(PortReader { port, owner });
            }
        }
        if let Some(released) = added.replaced {
            self.release(released);
        }
    }

    fn add_leaf(&mut self, step: StepId, source: &SampleSource, leaf: &Leaf) {
        let retention = source.reach(leaf, self.lookback).0 + source.offset + RING_SLACK_MS;
        let ring = self.rings.acquire(&source.matchers, retention);
        let config = LeafConfig::new(source.clone(), leaf.clone(), self.lookback, self.dialect);
        let config = Arc::new(config);
        for shard in &mut self.shards {
            shard.add_leaf(step, LeafSlot::new(config.clone(), ring));
        }
    }

    /// Removes a view.
    pub fn remove(&mut self, id: ViewId) {
        for released in self.views.remove(id) {
            self.release(released);
        }
    }

    /// Removes the steps that no view reads any more.
    fn release(&mut self, released: ReleasedView) {
        for port in released.unused_ports {
            for shard in &mut self.shards {
                shard.outbox.remove_reader(PortReader { port, owner: released.view.owner });
            }
        }
        for (step, _) in released.local {
            let mut ring = None;
            for shard in &mut self.shards {
                ring = shard.remove_step(step).or(ring);
            }
            if let Some(freed) = ring.and_then(|ring| self.rings.release(ring)) {
                for shard in &mut self.shards {
                    shard.drop_ring(freed);
                }
            }
        }
    }

    /// Has the state of all views that read a selector (`None`: any) built again from the store,
    /// without ended series. The views use their current state until that is done.
    pub fn rebuild(&mut self, selector: Option<&[Matcher]>, batch: InstallBatchId) {
        self.rings.retire(selector);
        for (id, request) in self.views.retire(selector) {
            self.install(id, request, batch);
        }
    }

    /// Begins the tick at `t`. With `all`, it waits until the history of all views that are being
    /// installed is read, and they begin.
    pub fn tick(&mut self, t: TimeMs, all: bool) {
        if t < self.now {
            // The clock was set back. The evaluated answers hold only until later times.
            for shard in &mut self.shards {
                shard.reset_all_leaves();
            }
            self.rings.mark_all_too_short();
        }
        self.now = t;
        if all {
            self.fill(true);
            self.begin(None);
            return;
        }
        self.request_history(t);
        // History for views that are being installed is put in place by preparations, not by ticks.
        if self.views.pending().next().is_none() {
            self.install_loaded(t, false, false);
        }
        self.spill_long_rings(t, false);
    }

    /// Works on views that are being installed, as of the previous tick; called after all messages
    /// of a preparation. Returns what changed in the ports.
    pub fn prepare(&mut self) -> Vec<PortDelta> {
        self.fill(false);
        self.views.refresh();
        let mut due = self.views.pending_steps().0.clone();
        due.extend(&self.opening.take_begun());
        let mut deltas = vote_message(self.ready().into_iter().map(WorkerVote::Ready).collect());
        deltas.extend(self.eval(&due));
        self.spill_new_rings();
        deltas
    }

    /// Requests missing history, and puts in place what has been read: all of it with `all`.
    fn fill(&mut self, all: bool) {
        if self.rings.take_freed() {
            for shard in &mut self.shards {
                shard.routes.forget_dropped(&shard.rings);
            }
        }
        let t = self.now;
        self.request_history(t);
        // Before any view has begun, no tick is waiting.
        let at_once = all || !self.views.any_active();
        self.install_loaded(t, all, at_once);
        self.spill_long_rings(t, all);
        if self.opening.open(&mut self.shards, at_once) {
            self.loads.wake();
        }
    }

    /// Time of the latest tick.
    pub fn now(&self) -> TimeMs {
        self.now
    }

    /// Begins an install batch; `None`: all views that are being installed.
    pub fn begin(&mut self, batch: Option<InstallBatchId>) {
        for (id, released) in self.views.begin(batch) {
            if let Some(released) = released {
                self.release(released);
            }
            // Without a batch the tick that follows evaluates all of them.
            if let Some(view) = self.views.all.get(&id).filter(|_| batch.is_some()) {
                self.opening.add_begun(&view.local);
            }
        }
    }

    /// The install batches that may begin as far as the shards of this worker are concerned.
    fn ready(&self) -> Vec<InstallBatchId> {
        let busy: Vec<&LocalShard> = self.shards.iter().filter(|shard| !shard.is_at_rest()).collect();
        let waits = |view: &InstalledView| busy.iter().any(|shard| shard.keeps_waiting(&view.local));
        let pending = self.views.pending().filter(|(batch, _)| !self.loads.is_pending(*batch));
        let ready =
            pending.filter_map(|(batch, mut views)| (busy.is_empty() || !views.any(waits)).then_some(batch));
        ready.collect()
    }

    /// Selectors in which too many ended series have accumulated. Checked about once a minute; at
    /// the same time the routes of targets that send nothing any more are forgotten.
    fn garbage(&mut self, t: TimeMs) -> Vec<Vec<Matcher>> {
        if !self.sweep.is_due(t) {
            return Vec::new();
        }
        for shard in &mut self.shards {
            shard.forget_silent(t);
            // A check that is under way is done again; one that is over needs none.
            shard.watch = None;
        }
        let is_garbage = |number: usize| {
            self.shards
                .iter()
                .filter_map(|shard| shard.rings.get(number))
                .any(|ring| ring.has_mostly_ended_series(t))
        };
        let garbage = self.rings.current().filter(|(_, ring)| is_garbage(*ring));
        garbage.map(|(matchers, _)| matchers.to_vec()).collect()
    }

    /// Whether there are no views, so that samples are of no use.
    pub fn is_idle(&self) -> bool {
        self.views.all.is_empty()
    }

    /// Takes samples of a shard that this worker owns. `t`: the tick they belong to.
    pub fn samples(&mut self, item: &ChangeEvent, t: TimeMs) {
        let Some(at) = self.shards.iter().position(|shard| shard.number == item.shard) else { return };
        self.shards[at].deliver(&self.store, item, t, None);
        self.keep_for_loads(at, item, t);
    }

    /// Number of the last round of the tick at `t`.
    pub fn last_round(&mut self, t: TimeMs) -> u64 {
        self.views.refresh();
        let checked = self.checked_view().map_or(0, |view| view.round);
        self.views.last_round(t).max(checked)
    }

    /// Evaluates what is due in a round. Returns what changed, by port, shard and owner.
    pub fn round(&mut self, t: TimeMs, round: u64) -> Vec<PortDelta> {
        let mut due = StepSet::default();
        for batch in self.views.due(t, round) {
            due.extend(&batch.local);
        }
        if let Some(view) = self.checked_view().filter(|view| view.round == round) {
            due.extend(&view.local.iter().copied().collect());
        }
        self.meter.begin(t, self.views.local.len());
        let mut deltas = Vec::new();
        if round == 0 {
            deltas = vote_message(self.garbage(t).into_iter().map(WorkerVote::Garbage).collect());
        }
        deltas.extend(self.eval(&due));
        tracing::debug!(target: "live::tick", t, round, deltas = deltas.len(), "a local stage is evaluated");
        // Not iterated in ticks that are not measured.
        let views = self.views.all.iter().filter(|(_, view)| view.round == round && view.times.due(t));
        self.meter.book(t, &self.views.local, views.map(|(id, view)| (*id, view.local.as_slice())));
        deltas
    }

    /// Evaluates those of the steps whose inputs have changed, at the time of the latest tick.
    fn eval(&mut self, due: &StepSet) -> Vec<PortDelta> {
        let mut touched = 0;
        let mut deltas = Vec::new();
        for shard in &mut self.shards {
            let open = (!shard.unopened.is_empty()).then(|| due.without(&shard.unopened));
            touched += shard.eval(open.as_ref().unwrap_or(due), self.now, &mut self.meter);
            for port in shard.outbox.take_changed() {
                for owner in self.views.port_owners(port) {
                    deltas.extend(shard.outbox.delta(&shard.stage, PortReader { port, owner }));
                }
                self.meter.step(port);
            }
            for reader in shard.outbox.take_new_readers(due) {
                deltas.extend(shard.outbox.delta(&shard.stage, reader));
            }
            // After the new owners: only now does the cursor of a new port exist, and its
            // annotations can be sent.
            for port in shard.outbox.ports_with_new_annotations(&shard.stage, due) {
                for owner in self.views.port_owners(port) {
                    deltas.extend(shard.outbox.delta(&shard.stage, PortReader { port, owner }));
                }
            }
        }
        self.counters.rows_touched.add(touched as u64);
        deltas
    }
}

/// A message with votes for worker 0.
pub(super) fn vote_message(votes: Vec<WorkerVote>) -> Vec<PortDelta> {
    if votes.is_empty() { Vec::new() } else { vec![PortDelta { votes, ..PortDelta::without_port(0) }] }
}
