//! Which views a round evaluates: batches of views with equal evaluation times and level, updated
//! as views are added and removed.
//!
//! The common case is cheap: a view that no view reads, that itself selects by metric name, and
//! that records no metric that other views record, changes no level but its own. Otherwise all
//! levels are computed again.

use super::level::levels;
use super::{EvaluationTimes, InstalledView};
use crate::live::{ViewId, ViewKind, ViewSpec};
use crate::operators::step_set::StepSet;
use crate::plan::row_labels::{for_each_selector, pinned_name};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use storage::model::TimeMs;

/// Views that are evaluated together, and the steps they need.
#[derive(Default)]
pub struct DueBatch {
    /// The views.
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
    /// The views that are coming: preparations work on them.
    coming: DueBatch,
    /// Views that began and are in no batch yet.
    fresh: BTreeSet<ViewId>,
    /// Batches from which views were removed.
    left: BTreeSet<BatchKey>,
    /// Views that others read were added or removed: all levels must be computed again.
    relevel: bool,
    /// A view is not coming any more: `coming` must be built again.
    recome: bool,
    /// Active views by the metric they record.
    records: HashMap<String, BTreeSet<ViewId>>,
    /// How many active views select a metric of that name.
    selected: HashMap<Arc<str>, usize>,
    /// How many of them may select any metric.
    unpinned: usize,
    /// Number of active views.
    standing: usize,
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
            // Two views that record the same series are evaluated in order.
            self.relevel |= views.len() > 1;
            self.relevel |= self.is_read(record);
        }
        // It may read whatever is recorded.
        self.relevel |= view.names().is_none() && !self.records.is_empty();
        self.fresh.insert(id);
        // It is not coming any more.
        self.recome = true;
        self.standing += 1;
    }

    /// Whether any view has begun.
    pub(super) fn any_active(&self) -> bool {
        self.standing > 0
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
            self.relevel |= self.is_read(record);
        }
        self.standing -= 1;
        self.fresh.remove(&id);
        self.leave(id, (view.slots, view.level));
    }

    fn leave(&mut self, id: ViewId, key: BatchKey) {
        if self.batches.get_mut(&key).is_some_and(|batch| batch.views.remove(&id)) {
            self.left.insert(key);
        }
    }

    /// A view is coming.
    pub(super) fn come(&mut self, view: &InstalledView) {
        self.coming.add_steps(view);
    }

    /// A view is not coming any more.
    pub(super) fn withdraw(&mut self) {
        self.recome = true;
    }

    /// Local and gather steps of the views that are coming.
    pub(super) fn coming(&self) -> (&StepSet, &StepSet) {
        (&self.coming.local, &self.coming.gather)
    }

    fn is_read(&self, record: &str) -> bool {
        self.unpinned > 0 || self.selected.contains_key(record)
    }

    fn count(&mut self, view: &InstalledView, more: bool) {
        let Some(names) = view.names() else {
            self.unpinned = if more { self.unpinned + 1 } else { self.unpinned.saturating_sub(1) };
            return;
        };
        for name in names {
            let views = self.selected.entry(name.clone()).or_default();
            *views = if more { *views + 1 } else { views.saturating_sub(1) };
            if *views == 0 {
                self.selected.remove(name);
            }
        }
    }

    /// Updates the batches.
    pub(super) fn settle(
        &mut self,
        all: &mut BTreeMap<ViewId, InstalledView>,
        coming: impl Fn(&BTreeMap<ViewId, InstalledView>, &mut DueBatch),
    ) {
        if self.relevel {
            self.settle_all(all);
        }
        for id in std::mem::take(&mut self.fresh) {
            let Some(level) = all.get(&id).map(|view| self.level(view, all)) else { continue };
            if let Some(view) = all.get_mut(&id) {
                view.level = level;
                self.enter(id, view);
            }
        }
        for key in std::mem::take(&mut self.left) {
            let Some(batch) = self.batches.remove(&key) else { continue };
            for id in batch.views {
                all.get(&id).into_iter().for_each(|view| self.enter(id, view));
            }
        }
        if std::mem::take(&mut self.recome) {
            self.coming = DueBatch::default();
            coming(all, &mut self.coming);
        }
    }

    fn settle_all(&mut self, all: &mut BTreeMap<ViewId, InstalledView>) {
        let levels = levels(all);
        self.batches.clear();
        self.left.clear();
        self.fresh.clear();
        self.relevel = false;
        for (id, view) in all.iter_mut() {
            view.level = levels.get(id).copied().unwrap_or(0);
            if view.batch.is_none() {
                self.enter(*id, view);
            }
        }
    }

    fn enter(&mut self, id: ViewId, view: &InstalledView) {
        let batch = self.batches.entry((view.slots, view.level)).or_default();
        if batch.views.insert(id) && view.owner == self.worker {
            batch.own += 1;
            batch.recorded.extend((view.slots != EvaluationTimes::Always).then_some(id));
        }
        batch.add_steps(view);
    }

    /// The level of a view that no other view reads, and that selects by name or reads nothing.
    fn level(&self, view: &InstalledView, all: &BTreeMap<ViewId, InstalledView>) -> u64 {
        let Some(names) = view.names() else { return 0 };
        let read = names.iter().filter_map(|name| self.records.get(&**name)).flatten();
        let above = read.filter_map(|id| all.get(id)).map(|view| view.level + 1).max();
        above.unwrap_or(0).min(crate::limits::TICK_ROUNDS - 1)
    }

    /// The batches due at `t`, in round `round`.
    pub(super) fn due(&self, t: TimeMs, round: u64) -> impl Iterator<Item = &DueBatch> {
        let due = move |((slots, level), _): &(&BatchKey, &DueBatch)| *level == round && slots.due(t);
        self.batches.iter().filter(due).map(|(_, batch)| batch)
    }

    /// The last round that the tick at `t` needs.
    pub(super) fn last_round(&self, t: TimeMs) -> u64 {
        let due = self.batches.keys().filter(|(slots, _)| slots.due(t));
        due.map(|(_, level)| *level).max().unwrap_or(0).min(crate::limits::TICK_ROUNDS - 1)
    }
}

impl DueBatch {
    /// Adds the steps of a view.
    pub(super) fn add_steps(&mut self, view: &InstalledView) {
        view.local.iter().for_each(|step| self.local.insert(*step));
        view.gather.iter().for_each(|step| self.gather.insert(*step));
    }
}

/// The metric names that a view selects; `None`: one of its selectors has none.
pub(super) fn names(spec: &ViewSpec) -> Option<Vec<Arc<str>>> {
    let mut names = Some(Vec::new());
    for_each_selector(&spec.plan, &mut |matchers| match (pinned_name(matchers), &mut names) {
        (Some(name), Some(names)) => names.push(name.into()),
        _ => names = None,
    });
    names
}
