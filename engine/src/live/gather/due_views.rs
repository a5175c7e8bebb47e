//! Which views a round has to look at. A recorded view is looked at in each of its slots, because
//! it has a sample to store. A continuous one is looked at when its answer changed, when something
//! about it changed (it has a new consumer, what is remarked is another), when it failed the last
//! time, and when its consumers should hear how far the unchanged answer is complete. Nobody else
//! is asked. New ones are answered by preparations.

use super::super::ViewId;
use super::super::views::{EvaluationTimes, InstalledView, ViewTable};
use crate::plan::physical::StepId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use storage::model::TimeMs;

/// See the module.
#[derive(Default)]
pub(super) struct DueViews {
    /// Own continuous views that stand, by the step that is their answer.
    by_root: HashMap<StepId, Vec<ViewId>>,
    root_of: HashMap<ViewId, StepId>,
    /// Those that the next round they are due in looks at.
    woken: BTreeSet<ViewId>,
    /// When views are to be looked at though nothing changes; each has one entry at most.
    calls: BTreeMap<TimeMs, Vec<ViewId>>,
    called: BTreeSet<ViewId>,
    /// The latest tick.
    now: TimeMs,
}

impl DueViews {
    /// A view of this worker stands from now on, perhaps on other steps than before.
    pub fn add(&mut self, id: ViewId, view: &InstalledView) {
        self.remove(id);
        if view.slots == EvaluationTimes::Always {
            self.by_root.entry(view.root).or_default().push(id);
            self.root_of.insert(id, view.root);
        }
    }

    /// A view is gone.
    pub fn remove(&mut self, id: ViewId) {
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
    pub fn changed(&mut self, step: StepId) {
        self.woken.extend(self.by_root.get(&step).into_iter().flatten());
    }

    /// A view is to be looked at, if it is a continuous one of this worker and stands.
    pub fn wake(&mut self, id: ViewId) {
        if self.root_of.contains_key(&id) {
            self.woken.insert(id);
        }
    }

    /// A view is to be looked at at `t` at the latest, or earlier if that was asked for before.
    pub fn call(&mut self, id: ViewId, t: TimeMs) {
        if self.called.insert(id) {
            self.calls.entry(t).or_default().push(id);
        }
    }

    /// The views of this worker to look at in a round, in the order of their ids.
    pub fn take(&mut self, views: &ViewTable, t: TimeMs, round: u64) -> Vec<ViewId> {
        if t < std::mem::replace(&mut self.now, t) {
            // The clock was set back: what was to come at later times comes now.
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
