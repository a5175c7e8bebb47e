//! The views that stand: their plans in steps, their owners, their schedule and their level.
//!
//! Every worker keeps this table, from the same control stream, and so they agree without talking. A view's
//! *level* is the round of the tick it is evaluated in: one more than that of the recorded views it reads.
//! A cycle of views that read each other is cut in the order of their ids (see [`levels_of`]).
//!
//! A view is *coming* until its past has been read: it is worked on at every tick and answers
//! nobody. What is installed together is a *cohort* and begins together. A view that stands and is
//! to have other steps (another question, or state built anew) has them coming beside those that it
//! stands on.

mod components;
mod level;
mod schedule;

use super::message::InstallBatchId;
use super::step_graph::StepGraph;
use super::topology::WorkerTopology;
use super::{ViewId, ViewKind, ViewSpec};
use crate::annotations::StepOrigin;
use crate::operators::step_set::StepSet;
use crate::plan::Dialect;
use crate::plan::physical::{LowerError, PhysicalPlan, Step, StepId, StepOp, StoreQueries};
use schedule::ViewSchedule;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use storage::model::{Matcher, TimeMs};

pub use level::{Reads, levels_of, reads_of};
pub use schedule::DueBatch;

/// When views are evaluated.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EvaluationTimes {
    /// At every tick.
    Always,
    /// At `k * interval + offset`.
    Every(i64, i64),
}

impl EvaluationTimes {
    /// Those of a kind of view.
    pub fn of(kind: &ViewKind) -> EvaluationTimes {
        match kind {
            ViewKind::Continuous { .. } => EvaluationTimes::Always,
            ViewKind::Recorded { interval, offset, .. } => {
                EvaluationTimes::Every((*interval).max(1), *offset)
            }
        }
    }

    /// The latest one at `t`.
    pub fn latest(self, t: TimeMs) -> TimeMs {
        match self {
            EvaluationTimes::Always => t,
            EvaluationTimes::Every(interval, offset) => t - (t - offset).rem_euclid(interval),
        }
    }

    /// Whether `t` is one of them.
    pub fn due(self, t: TimeMs) -> bool {
        match self {
            EvaluationTimes::Always => true,
            EvaluationTimes::Every(interval, offset) => (t - offset).rem_euclid(interval) == 0,
        }
    }
}

/// A view that is to come: what was asked for, and its steps, which the handle has cut for all
/// workers of its process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ViewRequest {
    /// What was asked for.
    pub spec: Arc<ViewSpec>,
    #[serde(skip)]
    cut: Option<Arc<CompiledView>>,
}

/// What is worked out once for a plan.
#[derive(Debug)]
struct CompiledView {
    steps: PhysicalPlan,
    /// The metric names that it selects; `None`: one of its selectors does not say.
    names: Option<Vec<Arc<str>>>,
}

impl CompiledView {
    fn of(spec: &ViewSpec, dialect: Dialect, queries: StoreQueries) -> Result<Arc<CompiledView>, LowerError> {
        Ok(Arc::new(CompiledView {
            steps: physical_of(spec, dialect, queries)?,
            names: schedule::names(spec),
        }))
    }
}

impl ViewRequest {
    /// Fails if it cannot stand.
    pub fn new(spec: ViewSpec, dialect: Dialect, queries: StoreQueries) -> Result<ViewRequest, LowerError> {
        let cut = CompiledView::of(&spec, dialect, queries)?;
        Ok(ViewRequest { spec: Arc::new(spec), cut: Some(cut) })
    }

    /// Its steps; cut here where it has come from another process. In a cluster no step asks the store.
    fn cut(&self, dialect: Dialect) -> Result<Arc<CompiledView>, LowerError> {
        self.cut.clone().map_or_else(|| CompiledView::of(&self.spec, dialect, StoreQueries::Refused), Ok)
    }

    /// How far before its evaluation it looks, ms; instant selectors look back `lookback`.
    pub fn reach(&self, lookback: i64) -> i64 {
        let reach = |step: &Step| match &step.op {
            StepOp::Leaf(source, leaf) => source.offset + source.reach(leaf, lookback).0,
            _ => 0,
        };
        let local = self.cut.iter().flat_map(|cut| &cut.steps.local);
        local.map(reach).max().unwrap_or(0)
    }
}

/// One view in terms of steps.
pub struct InstalledView {
    /// What was asked for.
    pub spec: Arc<ViewSpec>,
    cut: Arc<CompiledView>,
    /// The worker that gathers it.
    pub owner: usize,
    /// Numbers of its local steps.
    pub local: Vec<StepId>,
    /// Local steps that its owner must hear of.
    pub ports: Vec<StepId>,
    /// Numbers of its gather steps (meaningful at the owner only).
    pub gather: Vec<StepId>,
    /// Number of the gather step that is the answer.
    pub root: StepId,
    /// When it is evaluated.
    pub slots: EvaluationTimes,
    /// The round it is evaluated in.
    pub level: u64,
    /// While it is coming: who it begins with.
    pub cohort: Option<InstallBatchId>,
}

impl InstalledView {
    /// Where its local steps stood in the query.
    pub fn local_origins(&self) -> &[StepOrigin] {
        &self.cut.steps.local_origins
    }

    /// Where its gather steps stood.
    pub fn gather_origins(&self) -> &[StepOrigin] {
        &self.cut.steps.gather_origins
    }

    /// The same once more.
    fn wanted(&self) -> ViewRequest {
        ViewRequest { spec: self.spec.clone(), cut: Some(self.cut.clone()) }
    }

    /// The metric names that it selects; `None`: one of its selectors does not say.
    fn names(&self) -> Option<&[Arc<str>]> {
        self.cut.names.as_deref()
    }
}

/// See the module.
pub struct ViewTable {
    place: WorkerTopology,
    dialect: Dialect,
    /// The views.
    pub all: BTreeMap<ViewId, InstalledView>,
    /// What is coming for views that stand.
    next: BTreeMap<ViewId, InstalledView>,
    /// Steps of the local stage.
    pub local: StepGraph,
    /// Steps of this worker's gather stage.
    pub gather: StepGraph,
    schedule: ViewSchedule,
    /// What is coming, by cohort.
    coming: BTreeMap<InstallBatchId, BTreeSet<ViewId>>,
    /// The workers that gather through each port, and for how many views.
    owners: HashMap<StepId, BTreeMap<usize, usize>>,
}

/// What installing a view changed.
pub struct InstallResult {
    /// New local steps.
    pub local: Vec<StepId>,
    /// New gather steps (of this worker).
    pub gather: Vec<StepId>,
    /// Ports that its owner has not heard of yet.
    pub ports: Vec<(StepId, usize)>,
    /// What was coming under its id before.
    pub gone: Option<ReleasedView>,
}

/// Steps of a view that is no more.
pub struct ReleasedView {
    /// The view.
    pub view: InstalledView,
    /// Its local steps that nobody reads any more.
    pub local: Vec<(StepId, Step)>,
    /// The same of its gather steps (of this worker).
    pub gather: Vec<(StepId, Step)>,
    /// Its ports that no view of its owner gathers through any more.
    pub unheard: Vec<StepId>,
}

impl ViewTable {
    /// An empty table of the worker at `topology`.
    pub fn new(place: WorkerTopology, dialect: Dialect) -> ViewTable {
        ViewTable {
            place,
            dialect,
            all: BTreeMap::new(),
            local: StepGraph::default(),
            gather: StepGraph::default(),
            schedule: ViewSchedule::new(place.index()),
            coming: BTreeMap::new(),
            next: BTreeMap::new(),
            owners: HashMap::new(),
        }
    }

    /// Number of workers.
    pub fn peers(&self) -> usize {
        self.place.worker_count()
    }

    /// Makes a view come, in a cohort. If it stands already, it goes on as it is until then.
    pub fn install(
        &mut self,
        id: ViewId,
        wanted: ViewRequest,
        cohort: InstallBatchId,
    ) -> Result<InstallResult, LowerError> {
        let cut = wanted.cut(self.dialect)?;
        let spec = wanted.spec;
        let physical = &cut.steps;
        let (local, new_local) = self.local.intern(&physical.local, |port| port);
        let owner = self.place.gather_worker(id);
        let mut gather = Vec::new();
        let mut new_gather = Vec::new();
        if owner == self.place.index() {
            (gather, new_gather) = self.gather.intern(&physical.gather, |port| local[port]);
        }
        let port = |step: &Step| match step.op {
            StepOp::Port(id) => Some(local[id]),
            _ => None,
        };
        let ports: Vec<StepId> = physical.gather.iter().filter_map(port).collect();
        let mut unheard = Vec::new();
        for port in &ports {
            let views = self.owners.entry(*port).or_default().entry(owner).or_default();
            *views += 1;
            if *views == 1 {
                unheard.push((*port, owner));
            }
        }
        let view = InstalledView {
            root: gather.get(physical.root).copied().unwrap_or(0),
            slots: EvaluationTimes::of(&spec.kind),
            cohort: Some(cohort),
            level: 0,
            cut: cut.clone(),
            spec,
            owner,
            local,
            ports,
            gather,
        };
        let stands = self.all.get(&id).is_some_and(|view| view.cohort.is_none());
        let before = if stands { &mut self.next } else { &mut self.all }.insert(id, view);
        let gone = before.map(|view| {
            self.come_no_more(id, &view);
            self.release(view)
        });
        self.coming.entry(cohort).or_default().insert(id);
        if let Some(view) = self.next.get(&id).or_else(|| self.all.get(&id)) {
            self.schedule.come(view);
        }
        Ok(InstallResult { local: new_local, gather: new_gather, ports: unheard, gone })
    }

    /// Removes a view; returns what it stood on, and what was coming for it.
    pub fn remove(&mut self, id: ViewId) -> Vec<ReleasedView> {
        let mut gone = Vec::new();
        for view in self.all.remove(&id).into_iter().chain(self.next.remove(&id)) {
            match view.cohort {
                Some(_) => self.come_no_more(id, &view),
                None => self.schedule.remove(id, &view),
            }
            gone.push(self.release(view));
        }
        gone
    }

    fn come_no_more(&mut self, id: ViewId, view: &InstalledView) {
        self.schedule.come_no_more();
        let Some(cohort) = view.cohort else { return };
        if let Some(views) = self.coming.get_mut(&cohort) {
            views.remove(&id);
            if views.is_empty() {
                self.coming.remove(&cohort);
            }
        }
    }

    fn release(&mut self, view: InstalledView) -> ReleasedView {
        let mut unheard = Vec::new();
        for port in &view.ports {
            let Some(owners) = self.owners.get_mut(port) else { continue };
            if let Some(views) = owners.get_mut(&view.owner) {
                *views -= 1;
                if *views == 0 {
                    owners.remove(&view.owner);
                    unheard.push(*port);
                }
            }
            if owners.is_empty() {
                self.owners.remove(port);
            }
        }
        let local = self.local.release(&view.local);
        let gather = self.gather.release(&view.gather);
        ReleasedView { view, local, gather, unheard }
    }

    /// A cohort stands from now on (`None`: whatever is coming). Returns the views, and what
    /// they stood on before if they did.
    pub fn begin(&mut self, cohort: Option<InstallBatchId>) -> Vec<(ViewId, Option<ReleasedView>)> {
        let cohorts: Vec<InstallBatchId> = match cohort {
            Some(cohort) => vec![cohort],
            None => self.coming.keys().copied().collect(),
        };
        let ids: BTreeSet<ViewId> =
            cohorts.iter().filter_map(|cohort| self.coming.remove(cohort)).flatten().collect();
        let mut begun = Vec::new();
        for id in ids {
            let before = self.next.remove(&id).and_then(|view| self.all.insert(id, view));
            if let Some(before) = &before {
                self.schedule.remove(id, before);
            }
            let gone = before.map(|view| self.release(view));
            if let Some(view) = self.all.get_mut(&id) {
                view.cohort = None;
                self.schedule.add(id, view);
            }
            begun.push((id, gone));
        }
        begun
    }

    /// Whether any view stands.
    pub fn stands(&self) -> bool {
        self.schedule.stands()
    }

    /// What is coming, by cohort.
    pub fn coming(&self) -> impl Iterator<Item = (InstallBatchId, impl Iterator<Item = &InstalledView>)> {
        self.coming.iter().map(|(cohort, ids)| {
            (*cohort, ids.iter().filter_map(|id| self.next.get(id).or_else(|| self.all.get(id))))
        })
    }

    /// Makes the selections of views that are installed from now on be made anew: of one selector,
    /// or all. Returns the views that read them now, as they are to be in the end, in order.
    pub fn retire(&mut self, selector: Option<&[Matcher]>) -> Vec<(ViewId, ViewRequest)> {
        let retired: StepSet = self
            .local
            .retire(|step| match &step.op {
                StepOp::Leaf(source, _) => selector.is_none_or(|matchers| source.matchers == matchers),
                _ => false,
            })
            .into_iter()
            .collect();
        let latest = self.all.iter().map(|(id, view)| (*id, self.next.get(id).unwrap_or(view)));
        let reads = |view: &InstalledView| view.local.iter().any(|step| retired.contains(*step));
        latest.filter(|(_, view)| reads(view)).map(|(id, view)| (id, view.wanted())).collect()
    }

    /// Up to `limit` views in the order of their ids, from `from` on.
    pub fn page(&self, from: ViewId, limit: usize) -> impl Iterator<Item = (&ViewId, &InstalledView)> {
        self.all.range(from..).take(limit)
    }

    /// Local and gather steps of what is coming.
    pub fn coming_steps(&self) -> (&StepSet, &StepSet) {
        self.schedule.coming()
    }

    /// The batches due at `t`, in round `round`.
    pub fn due(&self, t: TimeMs, round: u64) -> impl Iterator<Item = &DueBatch> {
        self.schedule.due(t, round)
    }

    /// The last round that the tick at `t` needs.
    pub fn last_round(&self, t: TimeMs) -> u64 {
        self.schedule.last_round(t)
    }

    /// The workers that gather through port `port`.
    pub fn port_owners(&self, port: StepId) -> impl Iterator<Item = usize> + '_ {
        self.owners.get(&port).into_iter().flat_map(|owners| owners.keys().copied())
    }

    /// Works out what is due when, as far as views came or went. To be called before a tick asks for it.
    pub fn settle(&mut self) {
        let coming = &self.coming;
        let next = &self.next;
        self.schedule.settle(&mut self.all, |all, batch| {
            coming.values().flatten().filter_map(|id| next.get(id).or_else(|| all.get(id))).for_each(
                |view| {
                    batch.add_steps(view);
                },
            );
        });
    }
}

/// The plan of a view in steps. A query offset is a shift into the past.
pub fn physical_of(
    spec: &ViewSpec,
    dialect: Dialect,
    queries: StoreQueries,
) -> Result<PhysicalPlan, LowerError> {
    let shift = match spec.kind {
        ViewKind::Continuous { query_offset } => query_offset,
        ViewKind::Recorded { query_offset, .. } => query_offset,
    };
    let physical = PhysicalPlan::of(&spec.plan, shift, dialect, queries)?;
    for step in &physical.local {
        if let StepOp::Leaf(source, _) = &step.op {
            if matches!(source.at, Some(crate::plan::AtTime::Time(_))) {
                return Err(LowerError("a fixed time (@) cannot stand: its answer never changes".to_owned()));
            }
            if source.offset < 0 {
                return Err(LowerError("a negative offset cannot stand: it asks for the future".to_owned()));
            }
        }
    }
    Ok(physical)
}
