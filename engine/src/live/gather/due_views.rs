//! Which views a round must answer. A recorded view is answered at each of its evaluation times,
//! because it has samples to store. A continuous view is answered only when its answer or its
//! annotations changed, when it has a new consumer, when its last evaluation failed, and when its
//! consumers should receive a progress event. All other views are skipped. New views get their
//! first answer in a preparation, not here.

use super::super::ViewId;
use super::super::views::{EvaluationTimes, InstalledView, ViewTable};
use crate::plan::physical::StepId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use storage::model::TimeMs;

/// The views to answer, and when.
#[derive(Default)]
pub(super) struct DueViews {
    /// Continuous views of this worker, by the step that is their answer.
    by_root: HashMap<StepId, Vec<ViewId>>,
    root_of: HashMap<ViewId, StepId>,
    /// Views to answer in the next round in which they are due.
    woken: BTreeSet<ViewId>,
    /// Times at which views are answered although nothing changed. Each view has at most one entry.
    calls: BTreeMap<TimeMs, Vec<ViewId>>,
    called: BTreeSet<ViewId>,
    /// Time of the latest tick.
    now: TimeMs,
}

impl DueViews {
    /// A view of this worker begins, perhaps with other steps than before.
    pub(super) fn add(&mut self, id: ViewId, view: &InstalledView) {
        self.remove(id);
        if view.slots == EvaluationTimes::Always {
            self.by_root.entry(view.root).or_default().push(id);
            self.root_of.insert(id, view.root);
        }
    }

    /// Removes a view.
    pub(super) fn remove(&mut self, id: ViewId) {
        self.woken.remove(&id);
        let Some(root) = self.root_of.remove(&id) else { return };
        if let Some(views) = self.by_root.get_mut(&root) {
            views.retain(|view| *view != id);
            if views.is_empty() {
                self.by_root.remove(&root);
            }
        }
    }

    /// The rows of a step have changed.
    pub(super) fn changed(&mut self, step: StepId) {
        self.woken.extend(self.by_root.get(&step).into_iter().flatten());
    }

    /// Has a view answered in its next round, if it is an active continuous view of this worker.
    pub(super) fn wake(&mut self, id: ViewId) {
        if self.root_of.contains_key(&id) {
            self.woken.insert(id);
        }
    }

    /// Has a view answered at `t` at the latest; an earlier request stays.
    pub(super) fn call(&mut self, id: ViewId, t: TimeMs) {
        if self.called.insert(id) {
            self.calls.entry(t).or_default().push(id);
        }
    }

    /// The views of this worker to answer in a round, in the order of their ids.
    pub(super) fn take(&mut self, views: &ViewTable, t: TimeMs, round: u64) -> Vec<ViewId> {
        if t < std::mem::replace(&mut self.now, t) {
            // The clock was set back: what was planned for later times is done now.
            self.calls.clear();
            self.called.clear();
            self.woken.extend(self.root_of.keys());
        }
        while let Some(due) = self.calls.first_entry().filter(|due| *due.key() <= t) {
            for id in due.remove() {
                self.called.remove(&id);
                self.wake(id);
            }
        }
        let mut taken: Vec<ViewId> =
            views.due(t, round).flat_map(|batch| batch.recorded.iter().copied()).collect();
        let now = |id: &ViewId| views.all.get(id).is_some_and(|view| view.level == round);
        let (due, later) = std::mem::take(&mut self.woken).into_iter().partition(now);
        self.woken = later;
        let due: BTreeSet<ViewId> = due;
        taken.extend(due);
        taken.sort_unstable();
        taken
    }
}
