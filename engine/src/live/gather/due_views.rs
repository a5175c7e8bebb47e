//! Which views a round of a tick must answer. (A tick is one evaluation of all views that are due;
//! it has rounds, so that rules read what other rules have just recorded.)
//!
//! A recorded view is answered at each of its evaluation times, because it has samples to store. A
//! continuous view is answered only when its answer or its annotations changed, when it has a new
//! consumer, when its last evaluation failed, and when its consumers should receive a progress
//! event. All other views are skipped. New views get their first answer in a preparation, not here:
//! see [`super::first_answers`].

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
    due_now: BTreeSet<ViewId>,
    /// Times at which views are answered although nothing changed. Each view has at most one entry.
    due_at: BTreeMap<TimeMs, Vec<ViewId>>,
    /// The views in `due_at`.
    scheduled: BTreeSet<ViewId>,
    /// Views with a consumer that wants annotations.
    annotated: BTreeSet<ViewId>,
    /// Some annotation has changed since the last round.
    pub annotations_changed: bool,
    /// Time of the latest tick.
    now: TimeMs,
}

impl DueViews {
    /// A view of this worker begins, perhaps with other steps than before.
    pub(super) fn add(&mut self, id: ViewId, view: &InstalledView) {
        self.forget_root(id);
        if view.times == EvaluationTimes::EveryTick {
            self.by_root.entry(view.root).or_default().push(id);
            self.root_of.insert(id, view.root);
        }
    }

    /// Removes a view.
    pub(super) fn remove(&mut self, id: ViewId) {
        self.annotated.remove(&id);
        self.forget_root(id);
    }

    fn forget_root(&mut self, id: ViewId) {
        self.due_now.remove(&id);
        let Some(root) = self.root_of.remove(&id) else { return };
        if let Some(views) = self.by_root.get_mut(&root) {
            views.retain(|view| *view != id);
            if views.is_empty() {
                self.by_root.remove(&root);
            }
        }
    }

    /// The rows of a step have changed.
    pub(super) fn step_changed(&mut self, step: StepId) {
        self.due_now.extend(self.by_root.get(&step).into_iter().flatten());
    }

    /// Has a view answered in its next round, if it is an active continuous view of this worker.
    pub(super) fn mark_due(&mut self, id: ViewId) {
        if self.root_of.contains_key(&id) {
            self.due_now.insert(id);
        }
    }

    /// Has a view answered whenever annotations change.
    pub(super) fn follow_annotations(&mut self, id: ViewId) {
        self.annotated.insert(id);
    }

    /// Has a view answered at `t` at the latest; an earlier request stays.
    pub(super) fn schedule(&mut self, id: ViewId, t: TimeMs) {
        if self.scheduled.insert(id) {
            self.due_at.entry(t).or_default().push(id);
        }
    }

    /// Removes and returns the views of this worker to answer in a round, in the order of their
    /// ids.
    pub(super) fn take_due(&mut self, views: &ViewTable, t: TimeMs, round: u64) -> Vec<ViewId> {
        // Which views have an annotation is not known without walking their steps.
        if std::mem::take(&mut self.annotations_changed) {
            let active = self.annotated.iter().filter(|id| self.root_of.contains_key(id));
            self.due_now.extend(active);
        }
        if t < std::mem::replace(&mut self.now, t) {
            // The clock was set back: what was planned for later times is done now.
            self.due_at.clear();
            self.scheduled.clear();
            self.due_now.extend(self.root_of.keys());
        }
        while let Some(due) = self.due_at.first_entry().filter(|due| *due.key() <= t) {
            for id in due.remove() {
                self.scheduled.remove(&id);
                self.mark_due(id);
            }
        }
        let mut due: Vec<ViewId> =
            views.due(t, round).flat_map(|batch| batch.recorded.iter().copied()).collect();
        let in_round = |id: &ViewId| views.all.get(id).is_some_and(|view| view.round == round);
        let (continuous, later): (BTreeSet<ViewId>, BTreeSet<ViewId>) =
            std::mem::take(&mut self.due_now).into_iter().partition(in_round);
        self.due_now = later;
        due.extend(continuous);
        due.sort_unstable();
        due
    }
}
