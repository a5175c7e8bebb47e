//! The control messages that wait for the next tick: views to install or remove, taps,
//! descriptions, and what the workers themselves have found.
//!
//! Views are installed between ticks, a bounded number in each *preparation*, so that a tick that
//! is due waits for few of them. The views of one *install batch* still begin in the same tick: the
//! batch begins when all of its views have been delivered to the workers and are ready.

use super::ViewId;
use super::message::{Control, InstallBatchId};
use super::views::{EvaluationTimes, ViewRequest};
use crate::limits::PREPARED_VIEWS;
use std::collections::{BTreeMap, HashMap, VecDeque};
use storage::model::Matcher;

/// The queue of control messages, and the evaluation times of all views.
#[derive(Default)]
pub(super) struct ControlQueue {
    waiting: VecDeque<Control>,
    /// Messages that go before those in `waiting`: begins and rebuilds.
    priority: Vec<Control>,
    /// The newest install batch.
    newest: InstallBatchId,
    /// How many callers are between [`ControlQueue::hold`] and [`ControlQueue::release`]: what they
    /// add is delivered together.
    holders: usize,
    /// The install batch that these callers fill.
    held_batch: InstallBatchId,
    /// By install batch: how many of its views are still in `waiting`.
    undelivered: BTreeMap<InstallBatchId, usize>,
    /// Evaluation times by view. A view that is being replaced has both the current ones and the
    /// next.
    times: HashMap<ViewId, Vec<(EvaluationTimes, InstallBatchId)>>,
    /// The distinct schedules (interval, offset) of recorded views, and how many views have each.
    schedules: BTreeMap<(i64, i64), usize>,
    /// Some views are running, so a preparation must not take many messages at once.
    any_active: bool,
}

impl ControlQueue {
    /// Whether no message waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.priority.is_empty()
    }

    /// What is added until [`ControlQueue::release`] belongs together: no tick takes only a part of
    /// it, and its views begin in the same tick. Calls may nest.
    pub(super) fn hold(&mut self) {
        // Nested calls fill the batch of the outermost one: a reload of rules holds the queue while
        // it calls functions that hold it, too.
        if self.holders == 0 {
            self.held_batch = self.new_batch();
        }
        self.holders += 1;
    }

    /// Ends what [`ControlQueue::hold`] began.
    pub(super) fn release(&mut self) {
        self.holders = self.holders.saturating_sub(1);
    }

    fn new_batch(&mut self) -> InstallBatchId {
        self.newest += 1;
        self.newest
    }

    /// Adds a view, or replaces the plan of an existing one. Returns whether the view is new.
    pub(super) fn install(&mut self, id: ViewId, request: ViewRequest) -> bool {
        let times = EvaluationTimes::from_kind(&request.spec.kind);
        // A view that is installed by itself is a batch of its own: it does not wait for the
        // history of others.
        let batch = if self.holders > 0 { self.held_batch } else { self.new_batch() };
        let view_times = self.times.entry(id).or_default();
        let new = view_times.is_empty();
        // Both evaluation times count until the new plan begins. The driver then ticks more often
        // than needed, but never too rarely for the plan that is still evaluated.
        view_times.push((times, batch));
        count(&mut self.schedules, times, true);
        *self.undelivered.entry(batch).or_default() += 1;
        self.waiting.push_back(Control::Install(id, request, batch));
        new
    }

    /// Whether the view exists.
    pub(super) fn contains(&self, id: ViewId) -> bool {
        self.times.contains_key(&id)
    }

    /// Removes a view. Returns whether it existed.
    pub(super) fn remove(&mut self, id: ViewId) -> bool {
        let Some(view_times) = self.times.remove(&id) else { return false };
        for (times, _) in view_times {
            count(&mut self.schedules, times, false);
        }
        // In the queue, not at once: an `Install` of the same view may wait in front of it, and
        // workers must see both in order.
        self.waiting.push_back(Control::Remove(id));
        true
    }

    /// Adds any other message.
    pub(super) fn push(&mut self, control: Control) {
        self.waiting.push_back(control);
    }

    /// Has the state of all views that read a selector (`None`: of all views) built again from the
    /// store.
    pub(super) fn rebuild(&mut self, selector: Option<Vec<Matcher>>) {
        let batch = self.new_batch();
        self.priority.push(match selector {
            Some(selector) => Control::Rebuild(selector, batch),
            None => Control::RebuildAll(batch),
        });
    }

    /// All workers are ready to begin an install batch. Returns whether it begins: it does not
    /// while some of its views still wait here.
    pub(super) fn ready(&mut self, batch: InstallBatchId) -> bool {
        // Preparations deliver a large batch in parts. Workers report it ready as soon as what they
        // have got is read, so this may come too early; they report it again after the rest.
        let whole = !self.undelivered.contains_key(&batch);
        if whole {
            self.priority.push(Control::Begin(batch));
        }
        whole
    }

    /// The messages at the front that any tick can take because they cost little: taps and
    /// descriptions.
    pub(super) fn take_for_tick(&mut self) -> Vec<Control> {
        // Only the messages before the first install or removal: a tap must not overtake the
        // installation of its view.
        let is_light = |control: &Control| !matches!(control, Control::Install(..) | Control::Remove(_));
        let until = self.waiting.iter().position(|control| !is_light(control)).unwrap_or(self.waiting.len());
        self.waiting.drain(..if self.holders > 0 { 0 } else { until }).collect()
    }

    /// The messages for the next preparation, and whether there are more for another one.
    pub(super) fn take_for_preparation(&mut self) -> (Vec<Control>, bool) {
        let mut messages = self.take_priority();
        let mut views = 0;
        // Before any view is running no tick waits, so a start with thousands of rules takes all of
        // them at once.
        while self.has_views() && (!self.any_active || views < PREPARED_VIEWS) {
            let Some(control) = self.waiting.pop_front() else { break };
            views += usize::from(matches!(control, Control::Install(..) | Control::Remove(_)));
            messages.push(control);
        }
        self.count_delivered(&messages);
        (messages, self.has_views())
    }

    /// All messages, for a tick at which all views begin.
    pub(super) fn take_everything(&mut self) -> Vec<Control> {
        let mut messages = self.take_priority();
        messages.extend(self.waiting.drain(..));
        self.count_delivered(&messages);
        begin(&mut self.times, &mut self.schedules, |_| true);
        self.any_active = true;
        // Last, so that it covers every view of this batch of messages.
        messages.push(Control::BeginAll);
        messages
    }

    fn take_priority(&mut self) -> Vec<Control> {
        let messages = std::mem::take(&mut self.priority);
        for control in &messages {
            if let Control::Begin(batch) = control {
                begin(&mut self.times, &mut self.schedules, |other| other == *batch);
                self.any_active = true;
            }
        }
        messages
    }

    fn count_delivered(&mut self, messages: &[Control]) {
        for control in messages {
            if let Control::Install(_, _, batch) = control {
                deliver(&mut self.undelivered, *batch);
            }
        }
    }

    /// Whether a preparation has views to take. A description at the front is answered first, by a
    /// tick, so that answers follow the order of the messages.
    fn has_views(&self) -> bool {
        let front = self.waiting.front();
        self.holders == 0 && front.is_some_and(|control| !matches!(control, Control::Describe(_)))
    }

    /// Whether there is something for a preparation.
    pub(super) fn has_work(&self) -> bool {
        !self.priority.is_empty() || self.has_views()
    }

    /// The distinct schedules of all views.
    pub(super) fn schedules(&self) -> Vec<(i64, i64)> {
        self.schedules.keys().copied().collect()
    }

    /// How many messages wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.priority.len()
    }
}

/// Counts one view more or less with this schedule. Continuous views have none.
fn count(schedules: &mut BTreeMap<(i64, i64), usize>, times: EvaluationTimes, more: bool) {
    let EvaluationTimes::Every(interval, offset) = times else { return };
    let views = schedules.entry((interval, offset)).or_default();
    *views = if more { *views + 1 } else { views.saturating_sub(1) };
    if *views == 0 {
        schedules.remove(&(interval, offset));
    }
}

/// The views of these install batches have only their new evaluation times from now on.
fn begin(
    times: &mut HashMap<ViewId, Vec<(EvaluationTimes, InstallBatchId)>>,
    schedules: &mut BTreeMap<(i64, i64), usize>,
    which: impl Fn(InstallBatchId) -> bool,
) {
    for of_view in times.values_mut().filter(|of_view| of_view.len() > 1) {
        // From the newest that begins on: a plan that was replaced again before it began is skipped
        // over.
        if let Some(at) = of_view.iter().rposition(|(_, batch)| which(*batch)) {
            for (before, _) in of_view.drain(..at) {
                count(schedules, before, false);
            }
        }
    }
}

/// One view of an install batch has been delivered.
fn deliver(undelivered: &mut BTreeMap<InstallBatchId, usize>, batch: InstallBatchId) {
    if let Some(views) = undelivered.get_mut(&batch) {
        *views -= 1;
        if *views == 0 {
            undelivered.remove(&batch);
        }
    }
}
