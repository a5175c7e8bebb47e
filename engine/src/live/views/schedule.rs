//! Which views a round of a tick evaluates: batches of views with equal evaluation times and equal
//! round, updated as views are added and removed. [`super::rounds`] computes the round of each view
//! and explains the word.
//!
//! The common case is cheap: a view that no view reads, that itself selects by metric name, and
//! that records no metric that other views record, changes no round but its own. Otherwise all
//! rounds are computed again.

use super::rounds::rounds;
use super::{EvaluationTimes, InstalledView};
use crate::live::{ViewId, ViewKind, ViewSpec};
use crate::operators::step_set::StepSet;
use crate::plan::row_labels::{for_each_selector, required_name};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use storage::model::TimeMs;

/// Views that are evaluated together, and the steps they need.
#[derive(Default)]
pub struct DueBatch {
    views: BTreeSet<ViewId>,
    /// How many of them this worker owns.
    pub own: usize,
    /// Those of its own that are recorded.
    pub recorded: Vec<ViewId>,
    /// Their local steps.
    pub local: StepSet,
    /// The gather steps of those that this worker owns.
    pub gather: StepSet,
}

/// Evaluation times, and the round of a tick.
type BatchKey = (EvaluationTimes, u64);

/// The views by when they are evaluated.
#[derive(Default)]
pub(super) struct ViewSchedule {
    /// Number of this worker.
    worker: usize,
    batches: BTreeMap<BatchKey, DueBatch>,
    /// The pending views: preparations work on them.
    pending: DueBatch,
    /// Views that began and are in no batch yet.
    unscheduled: BTreeSet<ViewId>,
    /// Batches from which views were removed: they must be built again.
    shrunk: BTreeSet<BatchKey>,
    /// Views that others read were added or removed: all rounds must be computed again.
    rounds_outdated: bool,
    /// A view is not pending any more: `pending` must be built again.
    pending_outdated: bool,
    /// Active views by the metric they record.
    records: HashMap<String, BTreeSet<ViewId>>,
    /// How many active views select a metric of that name.
    selected: HashMap<Arc<str>, usize>,
    /// How many of them may select any metric.
    without_name: usize,
    /// Number of active views.
    active: usize,
}

impl ViewSchedule {
    /// An empty schedule for a worker.
    pub(super) fn new(worker: usize) -> ViewSchedule {
        ViewSchedule { worker, ..ViewSchedule::default() }
    }

    /// A view begins.
    pub(super) fn add(&mut self, id: ViewId, view: &InstalledView) {
        self.count(view, true);
        if let ViewKind::Recorded { record, .. } = &view.spec.kind {
            let views = self.records.entry(record.clone()).or_default();
            views.insert(id);
            // Two views that record the same series are evaluated in order, because the first
            // sample at a time stays.
            self.rounds_outdated |= views.len() > 1;
            self.rounds_outdated |= self.is_read(record);
        }
        // A selector without a name may match any recorded series.
        self.rounds_outdated |= view.names().is_none() && !self.records.is_empty();
        self.unscheduled.insert(id);
        // Its steps leave the set of pending steps. The set is built again rather than reduced,
        // because another pending view may have the same steps.
        self.pending_outdated = true;
        self.active += 1;
    }

    /// Whether any view has begun.
    pub(super) fn any_active(&self) -> bool {
        self.active > 0
    }

    /// An active view was removed.
    pub(super) fn remove(&mut self, id: ViewId, view: &InstalledView) {
        self.count(view, false);
        if let ViewKind::Recorded { record, .. } = &view.spec.kind {
            if let Some(views) = self.records.get_mut(record) {
                views.remove(&id);
                if views.is_empty() {
                    self.records.remove(record);
                }
            }
            self.rounds_outdated |= self.is_read(record);
        }
        self.active -= 1;
        self.unscheduled.remove(&id);
        self.remove_from_batch(id, (view.times, view.round));
    }

    fn remove_from_batch(&mut self, id: ViewId, key: BatchKey) {
        if self.batches.get_mut(&key).is_some_and(|batch| batch.views.remove(&id)) {
            // Built again later: which steps still belong to the batch follows only from all of its
            // views.
            self.shrunk.insert(key);
        }
    }

    /// A view is pending.
    pub(super) fn add_pending(&mut self, view: &InstalledView) {
        self.pending.add_steps(view);
    }

    /// A view is not pending any more.
    pub(super) fn remove_pending(&mut self) {
        self.pending_outdated = true;
    }

    /// Local and gather steps of the pending views.
    pub(super) fn pending(&self) -> (&StepSet, &StepSet) {
        (&self.pending.local, &self.pending.gather)
    }

    fn is_read(&self, record: &str) -> bool {
        self.without_name > 0 || self.selected.contains_key(record)
    }

    fn count(&mut self, view: &InstalledView, is_added: bool) {
        let Some(names) = view.names() else {
            self.without_name =
                if is_added { self.without_name + 1 } else { self.without_name.saturating_sub(1) };
            return;
        };
        for name in names {
            let views = self.selected.entry(name.clone()).or_default();
            *views = if is_added { *views + 1 } else { views.saturating_sub(1) };
            if *views == 0 {
                self.selected.remove(name);
            }
        }
    }

    /// Updates the batches.
    pub(super) fn refresh(
        &mut self,
        all: &mut BTreeMap<ViewId, InstalledView>,
        add_pending: impl Fn(&BTreeMap<ViewId, InstalledView>, &mut DueBatch),
    ) {
        if self.rounds_outdated {
            self.refresh_all(all);
        }
        for id in std::mem::take(&mut self.unscheduled) {
            // The cheap case: nothing else changes its round, so one look at the views that it
            // reads is enough.
            let Some(round) = all.get(&id).map(|view| self.round(view, all)) else { continue };
            if let Some(view) = all.get_mut(&id) {
                view.round = round;
                self.insert(id, view);
            }
        }
        for key in std::mem::take(&mut self.shrunk) {
            let Some(batch) = self.batches.remove(&key) else { continue };
            for id in batch.views {
                if let Some(view) = all.get(&id) {
                    self.insert(id, view);
                }
            }
        }
        if std::mem::take(&mut self.pending_outdated) {
            self.pending = DueBatch::default();
            add_pending(all, &mut self.pending);
        }
    }

    fn refresh_all(&mut self, all: &mut BTreeMap<ViewId, InstalledView>) {
        let rounds = rounds(all);
        self.batches.clear();
        self.shrunk.clear();
        self.unscheduled.clear();
        self.rounds_outdated = false;
        for (id, view) in all.iter_mut() {
            view.round = rounds.get(id).copied().unwrap_or(0);
            if view.batch.is_none() {
                self.insert(*id, view);
            }
        }
    }

    fn insert(&mut self, id: ViewId, view: &InstalledView) {
        let batch = self.batches.entry((view.times, view.round)).or_default();
        // `insert` is called again when a batch is rebuilt; views must not be counted twice.
        if batch.views.insert(id) && view.owner == self.worker {
            batch.own += 1;
            batch.recorded.extend((view.times != EvaluationTimes::EveryTick).then_some(id));
        }
        batch.add_steps(view);
    }

    /// The round of a view that no other view reads, and that selects by name or reads nothing.
    fn round(&self, view: &InstalledView, all: &BTreeMap<ViewId, InstalledView>) -> u64 {
        // Without names and with recorded views around, all rounds are computed again (see `add`),
        // so this view reads nothing recorded.
        let Some(names) = view.names() else { return 0 };
        let read = names.iter().filter_map(|name| self.records.get(&**name)).flatten();
        let above = read.filter_map(|id| all.get(id)).map(|view| view.round + 1).max();
        // A longer chain continues in the next tick: its last views read what the tick before has
        // recorded.
        above.unwrap_or(0).min(crate::limits::TICK_ROUNDS - 1)
    }

    /// The batches due at `t`, in round `round`.
    pub(super) fn due(&self, t: TimeMs, round: u64) -> impl Iterator<Item = &DueBatch> {
        let due =
            move |((times, batch_round), _): &(&BatchKey, &DueBatch)| *batch_round == round && times.due(t);
        self.batches.iter().filter(due).map(|(_, batch)| batch)
    }

    /// The last round that the tick at `t` needs.
    pub(super) fn last_round(&self, t: TimeMs) -> u64 {
        let due = self.batches.keys().filter(|(times, _)| times.due(t));
        due.map(|(_, round)| *round).max().unwrap_or(0).min(crate::limits::TICK_ROUNDS - 1)
    }
}

impl DueBatch {
    /// Adds the steps of a view.
    pub(super) fn add_steps(&mut self, view: &InstalledView) {
        for step in &view.local {
            self.local.insert(*step);
        }
        for step in &view.gather {
            self.gather.insert(*step);
        }
    }
}

/// The metric names that a view selects; `None`: one of its selectors has none.
pub(super) fn names(spec: &ViewSpec) -> Option<Vec<Arc<str>>> {
    let mut names = Some(Vec::new());
    for_each_selector(&spec.plan, &mut |matchers| match (required_name(matchers), &mut names) {
        (Some(name), Some(names)) => names.push(name.into()),
        _ => names = None,
    });
    names
}
