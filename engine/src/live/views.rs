//! The table of views: the steps of their plans, their owners, and when each is evaluated. Every
//! worker keeps this table from the same control messages, so the tables are equal without further
//! messages.
//!
//! A view is evaluated in one *round* of a tick: one more than that of the recorded views it reads.
//! A cycle of views that read each other is cut in the order of their ids (see [`rounds_of`]).
//! [`schedule`] groups views that are evaluated together.
//!
//! A view is *pending* until its history has been read: every preparation works on it, but it sends
//! no answers. Views that are installed together are an *install batch* and begin together. If a
//! view gets other steps (another plan, or state that is built again), the new ones are pending
//! while the current ones are evaluated. The other words are explained in [`crate::live`].

mod components;
mod rounds;
mod schedule;

use super::message::InstallBatchId;
use super::step_graph::StepGraph;
use super::topology::WorkerTopology;
use super::{ViewId, ViewKind, ViewSpec};
use crate::annotations::StepOrigin;
use crate::operators::step_set::StepSet;
use crate::plan::Dialect;
use crate::plan::explain_physical::explain_physical;
use crate::plan::physical::{LowerError, PhysicalPlan, Step, StepId, StepOp, StoreQueries};
use schedule::ViewSchedule;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use storage::model::{Matcher, TimeMs};

pub use rounds::{ViewDependencies, dependencies_of, rounds_of};
pub use schedule::DueBatch;

/// When a view is evaluated.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EvaluationTimes {
    /// At every tick.
    EveryTick,
    /// At `k * interval + offset`, in ms: (interval, offset).
    Every(i64, i64),
}

impl EvaluationTimes {
    /// The evaluation times of a kind of view.
    pub fn from_kind(kind: &ViewKind) -> EvaluationTimes {
        match kind {
            ViewKind::Continuous { .. } => EvaluationTimes::EveryTick,
            ViewKind::Recorded { interval, offset, .. } => {
                EvaluationTimes::Every((*interval).max(1), *offset)
            }
        }
    }

    /// The latest evaluation time at `t`.
    pub fn latest(self, t: TimeMs) -> TimeMs {
        match self {
            EvaluationTimes::EveryTick => t,
            EvaluationTimes::Every(interval, offset) => t - (t - offset).rem_euclid(interval),
        }
    }

    /// Whether `t` is an evaluation time.
    pub fn due(self, t: TimeMs) -> bool {
        match self {
            EvaluationTimes::EveryTick => true,
            EvaluationTimes::Every(interval, offset) => (t - offset).rem_euclid(interval) == 0,
        }
    }
}

/// A view to install: its specification, and its steps, compiled once for all workers of the
/// process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ViewRequest {
    /// What to keep current, when, and for whom.
    pub spec: Arc<ViewSpec>,
    #[serde(skip)]
    compiled: Option<Arc<CompiledView>>,
}

/// What is computed once for a plan.
#[derive(Debug)]
struct CompiledView {
    steps: PhysicalPlan,
    /// The metric names that the view selects; `None`: one of its selectors has none.
    names: Option<Vec<Arc<str>>>,
}

impl CompiledView {
    fn compile(
        spec: &ViewSpec,
        dialect: Dialect,
        queries: StoreQueries,
    ) -> Result<Arc<CompiledView>, LowerError> {
        Ok(Arc::new(CompiledView {
            steps: physical_of(spec, dialect, queries)?,
            names: schedule::names(spec),
        }))
    }
}

impl ViewRequest {
    /// Compiles a view. Fails if its plan cannot be a view.
    pub fn new(spec: ViewSpec, dialect: Dialect, queries: StoreQueries) -> Result<ViewRequest, LowerError> {
        let compiled = CompiledView::compile(&spec, dialect, queries)?;
        Ok(ViewRequest { spec: Arc::new(spec), compiled: Some(compiled) })
    }

    /// The steps. They are compiled here if the request came from another process; in a cluster no
    /// step queries the store.
    fn compiled(&self, dialect: Dialect) -> Result<Arc<CompiledView>, LowerError> {
        // Compiling is deterministic, so all processes come to the same steps in the same order,
        // and step numbers agree without being sent.
        self.compiled
            .clone()
            .map_or_else(|| CompiledView::compile(&self.spec, dialect, StoreQueries::Refused), Ok)
    }

    /// How far before its evaluation the view reads, in ms; `lookback` is that of instant
    /// selectors.
    pub fn reach(&self, lookback: i64) -> i64 {
        let reach = |step: &Step| match &step.op {
            StepOp::Leaf(source, leaf) => source.offset + source.reach(leaf, lookback).0,
            _ => 0,
        };
        let local = self.compiled.iter().flat_map(|compiled| &compiled.steps.local);
        local.map(reach).max().unwrap_or(0)
    }
}

/// One view in terms of steps. A step is given by its number in the graph of its stage
/// ([`StepGraph`]).
pub struct InstalledView {
    /// What the view was installed with.
    pub spec: Arc<ViewSpec>,
    compiled: Arc<CompiledView>,
    /// The worker that runs its gather stage.
    pub owner: usize,
    /// Numbers of its local steps.
    pub local: Vec<StepId>,
    /// Its ports: local steps whose rows its owner needs.
    pub ports: Vec<StepId>,
    /// Numbers of its gather steps (only in its owner).
    pub gather: Vec<StepId>,
    /// Number of the gather step that is the answer.
    pub root: StepId,
    /// When it is evaluated.
    pub times: EvaluationTimes,
    /// The round in which it is evaluated.
    pub round: u64,
    /// Its install batch, until that begins.
    pub batch: Option<InstallBatchId>,
}

impl InstalledView {
    /// Where in the query its local steps come from.
    pub fn local_origins(&self) -> &[StepOrigin] {
        &self.compiled.steps.local_origins
    }

    /// Where in the query its gather steps come from.
    pub fn gather_origins(&self) -> &[StepOrigin] {
        &self.compiled.steps.gather_origins
    }

    /// Its steps as a tree.
    pub fn explain(&self) -> String {
        explain_physical(&self.compiled.steps)
    }

    /// A request to install the same view again.
    fn request(&self) -> ViewRequest {
        ViewRequest { spec: self.spec.clone(), compiled: Some(self.compiled.clone()) }
    }

    /// The metric names that the view selects; `None`: one of its selectors has none.
    fn names(&self) -> Option<&[Arc<str>]> {
        self.compiled.names.as_deref()
    }
}

/// All views, as one worker sees them.
pub struct ViewTable {
    topology: WorkerTopology,
    dialect: Dialect,
    /// All installed views, also those that wait for their history.
    pub all: BTreeMap<ViewId, InstalledView>,
    /// Pending steps of views that have begun.
    replacements: BTreeMap<ViewId, InstalledView>,
    /// Steps of the local stage.
    pub local: StepGraph,
    /// Steps of this worker's gather stage.
    pub gather: StepGraph,
    schedule: ViewSchedule,
    /// The pending views, by install batch.
    pending: BTreeMap<InstallBatchId, BTreeSet<ViewId>>,
    /// By port: the workers that read it, and for how many views.
    owners: HashMap<StepId, BTreeMap<usize, usize>>,
}

/// What installing a view changed.
pub struct InstallResult {
    /// New local steps.
    pub local: Vec<StepId>,
    /// New gather steps of this worker.
    pub gather: Vec<StepId>,
    /// Ports that an owner did not read before.
    pub ports: Vec<(StepId, usize)>,
    /// The pending version of the view that this one replaces.
    pub replaced: Option<ReleasedView>,
}

/// The steps of a removed view.
pub struct ReleasedView {
    /// The removed view itself.
    pub view: InstalledView,
    /// Its local steps that have no readers any more.
    pub local: Vec<(StepId, Step)>,
    /// Its gather steps (of this worker) that have no readers any more.
    pub gather: Vec<(StepId, Step)>,
    /// Its ports that its owner does not read any more.
    pub unused_ports: Vec<StepId>,
}

impl ViewTable {
    /// An empty table for the worker at `topology`.
    pub fn new(topology: WorkerTopology, dialect: Dialect) -> ViewTable {
        ViewTable {
            topology,
            dialect,
            all: BTreeMap::new(),
            local: StepGraph::default(),
            gather: StepGraph::default(),
            schedule: ViewSchedule::new(topology.index()),
            pending: BTreeMap::new(),
            replacements: BTreeMap::new(),
            owners: HashMap::new(),
        }
    }

    /// Number of workers.
    pub fn peers(&self) -> usize {
        self.topology.worker_count()
    }

    /// The position of this worker.
    pub fn topology(&self) -> WorkerTopology {
        self.topology
    }

    /// Adds a view to an install batch. If the view exists, its current steps are evaluated until
    /// the batch begins.
    pub fn install(
        &mut self,
        id: ViewId,
        request: ViewRequest,
        batch: InstallBatchId,
    ) -> Result<InstallResult, LowerError> {
        let compiled = request.compiled(self.dialect)?;
        let spec = request.spec;
        let physical = &compiled.steps;
        // In all workers, whichever owns the view: each computes the local stage for its own
        // shards.
        let (local, new_local) = self.local.intern(&physical.local, |port| port);
        let owner = self.topology.gather_worker(id);
        let mut gather = Vec::new();
        let mut new_gather = Vec::new();
        // Only the owner runs the gather stage.
        if owner == self.topology.index() {
            (gather, new_gather) = self.gather.intern(&physical.gather, |port| local[port]);
        }
        let port = |step: &Step| match step.op {
            StepOp::Port(id) => Some(local[id]),
            _ => None,
        };
        let ports: Vec<StepId> = physical.gather.iter().filter_map(port).collect();
        let mut new_ports = Vec::new();
        for port in &ports {
            // Counted, because several views of one owner may read the same port: rows are sent
            // once to each owner.
            let views = self.owners.entry(*port).or_default().entry(owner).or_default();
            *views += 1;
            if *views == 1 {
                new_ports.push((*port, owner));
            }
        }
        let view = InstalledView {
            // In other workers than the owner there are no gather steps, and nobody reads the root.
            root: gather.get(physical.root).copied().unwrap_or(0),
            times: EvaluationTimes::from_kind(&spec.kind),
            batch: Some(batch),
            round: 0,
            compiled: compiled.clone(),
            spec,
            owner,
            local,
            ports,
            gather,
        };
        let is_active = self.all.get(&id).is_some_and(|view| view.batch.is_none());
        // A view that runs keeps its steps; the new ones wait beside it until their history is
        // read. A view that has not begun is simply exchanged.
        let before = if is_active { &mut self.replacements } else { &mut self.all }.insert(id, view);
        // It may have waited in another batch, which must not wait for it any more.
        let replaced = before.map(|view| {
            self.withdraw(id, &view);
            self.release(view)
        });
        self.pending.entry(batch).or_default().insert(id);
        if let Some(view) = self.replacements.get(&id).or_else(|| self.all.get(&id)) {
            self.schedule.add_pending(view);
        }
        Ok(InstallResult { local: new_local, gather: new_gather, ports: new_ports, replaced })
    }

    /// Removes a view. Returns its current steps, and the pending ones.
    pub fn remove(&mut self, id: ViewId) -> Vec<ReleasedView> {
        let mut released = Vec::new();
        for view in self.all.remove(&id).into_iter().chain(self.replacements.remove(&id)) {
            match view.batch {
                Some(_) => self.withdraw(id, &view),
                None => self.schedule.remove(id, &view),
            }
            released.push(self.release(view));
        }
        released
    }

    fn withdraw(&mut self, id: ViewId, view: &InstalledView) {
        self.schedule.remove_pending();
        let Some(batch) = view.batch else { return };
        if let Some(views) = self.pending.get_mut(&batch) {
            views.remove(&id);
            if views.is_empty() {
                self.pending.remove(&batch);
            }
        }
    }

    fn release(&mut self, view: InstalledView) -> ReleasedView {
        let mut unused_ports = Vec::new();
        for port in &view.ports {
            let Some(owners) = self.owners.get_mut(port) else { continue };
            if let Some(views) = owners.get_mut(&view.owner) {
                *views -= 1;
                if *views == 0 {
                    owners.remove(&view.owner);
                    unused_ports.push(*port);
                }
            }
            if owners.is_empty() {
                self.owners.remove(port);
            }
        }
        let local = self.local.release(&view.local);
        let gather = self.gather.release(&view.gather);
        ReleasedView { view, local, gather, unused_ports }
    }

    /// Begins an install batch (`None`: all of them). Returns the views, with the steps that they
    /// replaced.
    pub fn begin(&mut self, batch: Option<InstallBatchId>) -> Vec<(ViewId, Option<ReleasedView>)> {
        let batches: Vec<InstallBatchId> = match batch {
            Some(batch) => vec![batch],
            None => self.pending.keys().copied().collect(),
        };
        let ids: BTreeSet<ViewId> =
            batches.iter().filter_map(|batch| self.pending.remove(batch)).flatten().collect();
        let mut begun = Vec::new();
        for id in ids {
            let before = self.replacements.remove(&id).and_then(|view| self.all.insert(id, view));
            // The old plan is taken from the schedule before the new one is added: the schedule
            // counts views by what they record and select.
            if let Some(before) = &before {
                self.schedule.remove(id, before);
            }
            let released = before.map(|view| self.release(view));
            if let Some(view) = self.all.get_mut(&id) {
                view.batch = None;
                self.schedule.add(id, view);
            }
            begun.push((id, released));
        }
        begun
    }

    /// Whether any view has begun.
    pub fn any_active(&self) -> bool {
        self.schedule.any_active()
    }

    /// The pending views, by install batch.
    pub fn pending(&self) -> impl Iterator<Item = (InstallBatchId, impl Iterator<Item = &InstalledView>)> {
        self.pending.iter().map(|(batch, ids)| {
            (*batch, ids.iter().filter_map(|id| self.replacements.get(id).or_else(|| self.all.get(id))))
        })
    }

    /// Makes views that are installed from now on use new leaves for a selector, or for all.
    /// Returns requests for the views that read the present leaves, in order.
    pub fn retire(&mut self, selector: Option<&[Matcher]>) -> Vec<(ViewId, ViewRequest)> {
        let retired: StepSet = self
            .local
            .retire(|step| match &step.op {
                StepOp::Leaf(source, _) => selector.is_none_or(|matchers| source.matchers == matchers),
                _ => false,
            })
            .into_iter()
            .collect();
        let latest = self.all.iter().map(|(id, view)| (*id, self.replacements.get(id).unwrap_or(view)));
        // Only views that read the old leaves: all others keep their state.
        let reads = |view: &InstalledView| view.local.iter().any(|step| retired.contains(*step));
        latest.filter(|(_, view)| reads(view)).map(|(id, view)| (id, view.request())).collect()
    }

    /// Whether new steps of an installed view are being prepared.
    pub fn is_replaced(&self, id: ViewId) -> bool {
        self.replacements.contains_key(&id)
    }

    /// Up to `limit` views in the order of their ids, from `from` on.
    pub fn page(&self, from: ViewId, limit: usize) -> impl Iterator<Item = (&ViewId, &InstalledView)> {
        self.all.range(from..).take(limit)
    }

    /// Local and gather steps of the pending views.
    pub fn pending_steps(&self) -> (&StepSet, &StepSet) {
        self.schedule.pending()
    }

    /// The batches of views due at `t`, in round `round`.
    pub fn due(&self, t: TimeMs, round: u64) -> impl Iterator<Item = &DueBatch> {
        self.schedule.due(t, round)
    }

    /// The last round that the tick at `t` needs.
    pub fn last_round(&self, t: TimeMs) -> u64 {
        self.schedule.last_round(t)
    }

    /// The workers that read port `port`.
    pub fn port_owners(&self, port: StepId) -> impl Iterator<Item = usize> + '_ {
        self.owners.get(&port).into_iter().flat_map(|owners| owners.keys().copied())
    }

    /// Updates the schedule after views were added or removed. To be called before a tick uses it.
    pub fn refresh(&mut self) {
        let pending = &self.pending;
        let replacements = &self.replacements;
        self.schedule.refresh(&mut self.all, |all, batch| {
            for id in pending.values().flatten() {
                // While a view has a replacement, the steps of the replacement are prepared.
                if let Some(view) = replacements.get(id).or_else(|| all.get(id)) {
                    batch.add_steps(view);
                }
            }
        });
    }
}

/// The plan of a view in steps. A query offset shifts it into the past.
pub fn physical_of(
    spec: &ViewSpec,
    dialect: Dialect,
    queries: StoreQueries,
) -> Result<PhysicalPlan, LowerError> {
    let shift = match spec.kind {
        ViewKind::Continuous { query_offset } => query_offset,
        ViewKind::Recorded { query_offset, .. } => query_offset,
    };
    let physical = PhysicalPlan::for_view(&spec.plan, shift, dialect, queries)?;
    for step in &physical.local {
        if let StepOp::Leaf(source, _) = &step.op {
            if matches!(source.at, Some(crate::plan::AtTime::Time(_))) {
                return Err(LowerError("a fixed time (@) cannot stand: its answer never changes".to_owned()));
            }
            // With store queries allowed, such selectors were lowered to queries before, so this is
            // reached only where they are not allowed.
            if source.offset < 0 {
                return Err(LowerError("a negative offset cannot stand: it asks for the future".to_owned()));
            }
        }
    }
    Ok(physical)
}
