//! Which views a round evaluates: batches of those with equal slots and level, kept up as views come and go.
//!
//! A view that no other one reads, and that reads none or knows by name which, and that records no
//! metric which others record, changes no level but its own; that is what views that come and go
//! mostly are. Otherwise all levels are worked out again.

use super::level::levels;
use super::{EvaluationTimes, InstalledView};
use crate::live::{ViewId, ViewKind, ViewSpec};
use crate::operators::step_set::StepSet;
use crate::plan::row_labels::{for_each_selector, pinned_name};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use storage::model::TimeMs;

/// Views that are evaluated together, and what they need.
#[derive(Default)]
pub struct DueBatch {
    /// The views.
    views: BTreeSet<ViewId>,
    /// How many of them this worker owns.
    pub own: usize,
    /// Those among these that are recorded.
    pub recorded: Vec<ViewId>,
    /// Their local steps.
    pub local: StepSet,
    /// Gather steps of those of them that this worker owns.
    pub gather: StepSet,
}

/// When, and in which round of a tick.
type BatchKey = (EvaluationTimes, u64);

/// See the module.
#[derive(Default)]
pub(super) struct ViewSchedule {
    /// The number of this worker.
    worker: usize,
    batches: BTreeMap<BatchKey, DueBatch>,
    /// What is coming: worked on between ticks.
    coming: DueBatch,
    /// Views that began and are in no batch yet.
    fresh: BTreeSet<ViewId>,
    /// Batches that views have left.
    left: BTreeSet<BatchKey>,
    /// Views came or went that others read.
    relevel: bool,
    /// Something that came is not coming any more.
    recome: bool,
    /// Standing views by what they record.
    records: HashMap<String, BTreeSet<ViewId>>,
    /// How many standing views select a metric of that name.
    selected: HashMap<Arc<str>, usize>,
    /// How many of them may select any.
    unpinned: usize,
    /// How many views stand.
    standing: usize,
}

impl ViewSchedule {
    /// The schedule of a worker, with nothing in it.
    pub fn new(worker: usize) -> ViewSchedule {
        ViewSchedule { worker, ..ViewSchedule::default() }
    }

    /// A view began.
    pub fn add(&mut self, id: ViewId, view: &InstalledView) {
        self.count(view, true);
        if let ViewKind::Recorded { record, .. } = &view.spec.kind {
            let views = self.records.entry(record.clone()).or_default();
            views.insert(id);
            // Two that record one series come in their order.
            self.relevel |= views.len() > 1;
            self.relevel |= self.is_read(record);
        }
        // It reads whatever is recorded.
        self.relevel |= view.names().is_none() && !self.records.is_empty();
        self.fresh.insert(id);
        // It is not coming any more.
        self.recome = true;
        self.standing += 1;
    }

    /// Whether any view stands.
    pub fn stands(&self) -> bool {
        self.standing > 0
    }

    /// A view that had begun is gone.
    pub fn remove(&mut self, id: ViewId, view: &InstalledView) {
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

    /// Something came.
    pub fn come(&mut self, view: &InstalledView) {
        self.coming.add_steps(view);
    }

    /// Something is not to come any more.
    pub fn come_no_more(&mut self) {
        self.recome = true;
    }

    /// Local and gather steps of what is coming.
    pub fn coming(&self) -> (&StepSet, &StepSet) {
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

    /// Brings the batches up.
    pub fn settle(
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
            if view.cohort.is_none() {
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

    /// The level of a view that others do not read, and that reads none or says which.
    fn level(&self, view: &InstalledView, all: &BTreeMap<ViewId, InstalledView>) -> u64 {
        let Some(names) = view.names() else { return 0 };
        let read = names.iter().filter_map(|name| self.records.get(&**name)).flatten();
        let above = read.filter_map(|id| all.get(id)).map(|view| view.level + 1).max();
        above.unwrap_or(0).min(crate::limits::TICK_ROUNDS - 1)
    }

    /// The batches due at `t`, in round `round`.
    pub fn due(&self, t: TimeMs, round: u64) -> impl Iterator<Item = &DueBatch> {
        let due = move |((slots, level), _): &(&BatchKey, &DueBatch)| *level == round && slots.due(t);
        self.batches.iter().filter(due).map(|(_, batch)| batch)
    }

    /// The last round that the tick at `t` needs.
    pub fn last_round(&self, t: TimeMs) -> u64 {
        let due = self.batches.keys().filter(|(slots, _)| slots.due(t));
        due.map(|(_, level)| *level).max().unwrap_or(0).min(crate::limits::TICK_ROUNDS - 1)
    }
}

impl DueBatch {
    /// Adds what a view needs.
    pub(super) fn add_steps(&mut self, view: &InstalledView) {
        view.local.iter().for_each(|step| self.local.insert(*step));
        view.gather.iter().for_each(|step| self.gather.insert(*step));
    }
}

/// The metric names that a view selects; `None`: one of its selectors does not say.
pub(super) fn names(spec: &ViewSpec) -> Option<Vec<Arc<str>>> {
    let mut names = Some(Vec::new());
    for_each_selector(&spec.plan, &mut |matchers| match (pinned_name(matchers), &mut names) {
        (Some(name), Some(names)) => names.push(name.into()),
        _ => names = None,
    });
    names
}
