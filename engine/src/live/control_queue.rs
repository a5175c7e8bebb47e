//! What waits for the next tick: word of views and consumers, in order, and what the workers
//! themselves have come to.
//!
//! Views come and go between ticks, a bounded number in each *preparation*, so that a tick that
//! falls due waits for few of them. They begin together all the same, because a *cohort* begins
//! when all of it has been handed on and is ready.

use super::ViewId;
use super::message::{Control, InstallBatchId};
use super::views::{EvaluationTimes, ViewRequest};
use crate::limits::PREPARED_VIEWS;
use std::collections::{BTreeMap, HashMap, VecDeque};
use storage::model::Matcher;

/// See the module.
#[derive(Default)]
pub struct ControlQueue {
    waiting: VecDeque<Control>,
    /// Comes before what waits: begins, renewals.
    own: Vec<Control>,
    /// The newest cohort.
    newest: InstallBatchId,
    /// How many are putting together what belongs together, and in which cohort.
    held: (usize, InstallBatchId),
    /// Views of a cohort that still wait.
    undelivered: BTreeMap<InstallBatchId, usize>,
    /// When views are due. A view that is to change has what it will have, too.
    slots: HashMap<ViewId, Vec<(EvaluationTimes, InstallBatchId)>>,
    /// The distinct schedules of recorded views, with how many have them.
    schedules: BTreeMap<(i64, i64), usize>,
    /// Something stands already, and should not be disturbed.
    stands: bool,
}

impl ControlQueue {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.own.is_empty()
    }

    /// What comes until [`ControlQueue::release`] belongs together: no tick takes part of it, and
    /// its views begin together.
    pub fn hold(&mut self) {
        if self.held.0 == 0 {
            self.held.1 = self.new_cohort();
        }
        self.held.0 += 1;
    }

    /// See [`ControlQueue::hold`].
    pub fn release(&mut self) {
        self.held.0 = self.held.0.saturating_sub(1);
    }

    fn new_cohort(&mut self) -> InstallBatchId {
        self.newest += 1;
        self.newest
    }

    /// A view, or another question for one that stands; whether it is new.
    pub fn install(&mut self, id: ViewId, wanted: ViewRequest) -> bool {
        let slots = EvaluationTimes::of(&wanted.spec.kind);
        let cohort = if self.held.0 > 0 { self.held.1 } else { self.new_cohort() };
        let known = self.slots.entry(id).or_default();
        let new = known.is_empty();
        known.push((slots, cohort));
        count(&mut self.schedules, slots, true);
        *self.undelivered.entry(cohort).or_default() += 1;
        self.waiting.push_back(Control::Install(id, wanted, cohort));
        new
    }

    /// Whether there is such a view.
    pub fn has(&self, id: ViewId) -> bool {
        self.slots.contains_key(&id)
    }

    /// No view any more; whether there was one.
    pub fn remove(&mut self, id: ViewId) -> bool {
        let Some(known) = self.slots.remove(&id) else { return false };
        for (slots, _) in known.iter() {
            count(&mut self.schedules, *slots, false);
        }
        self.waiting.push_back(Control::Remove(id));
        true
    }

    /// Anything else.
    pub fn push(&mut self, control: Control) {
        self.waiting.push_back(control);
    }

    /// The state of the views of a selector (`None`: of all) is to be built anew.
    pub fn renew(&mut self, selector: Option<Vec<Matcher>>) {
        let cohort = self.new_cohort();
        self.own.push(match selector {
            Some(selector) => Control::Renew(selector, cohort),
            None => Control::RenewAll(cohort),
        });
    }

    /// All workers are ready to begin a cohort; whether it does: part of it may still wait here.
    pub fn ready(&mut self, cohort: InstallBatchId) -> bool {
        let whole = !self.undelivered.contains_key(&cohort);
        if whole {
            self.own.push(Control::Begin(cohort));
        }
        whole
    }

    /// What a tick takes along that does not wait for what is coming: word of consumers, and questions.
    pub fn take_light(&mut self) -> Vec<Control> {
        let light = |control: &Control| !matches!(control, Control::Install(..) | Control::Remove(_));
        let until = self.waiting.iter().position(|control| !light(control)).unwrap_or(self.waiting.len());
        self.waiting.drain(..if self.held.0 > 0 { 0 } else { until }).collect()
    }

    /// What the next preparation takes along, and whether there is more for another one.
    pub fn take_some(&mut self) -> (Vec<Control>, bool) {
        let mut taken = self.take_own();
        let mut views = 0;
        while self.has_views() && (!self.stands || views < PREPARED_VIEWS) {
            let Some(control) = self.waiting.pop_front() else { break };
            views += usize::from(matches!(control, Control::Install(..) | Control::Remove(_)));
            taken.push(control);
        }
        self.note_taken(&taken);
        (taken, self.has_views())
    }

    /// Everything, for a tick at which everything begins.
    pub fn take_all(&mut self) -> Vec<Control> {
        let mut taken = self.take_own();
        taken.extend(self.waiting.drain(..));
        self.note_taken(&taken);
        begin(&mut self.slots, &mut self.schedules, |_| true);
        self.stands = true;
        taken.push(Control::BeginAll);
        taken
    }

    fn take_own(&mut self) -> Vec<Control> {
        let taken = std::mem::take(&mut self.own);
        for control in &taken {
            if let Control::Begin(cohort) = control {
                begin(&mut self.slots, &mut self.schedules, |other| other == *cohort);
                self.stands = true;
            }
        }
        taken
    }

    fn note_taken(&mut self, taken: &[Control]) {
        for control in taken {
            if let Control::Install(_, _, cohort) = control {
                deliver(&mut self.undelivered, *cohort);
            }
        }
    }

    /// Whether a preparation has views to take. A question that comes first is answered first, by a tick.
    fn has_views(&self) -> bool {
        let front = self.waiting.front();
        self.held.0 == 0 && front.is_some_and(|control| !matches!(control, Control::Describe(_)))
    }

    /// Whether there is something for a preparation.
    pub fn has_work(&self) -> bool {
        !self.own.is_empty() || self.has_views()
    }

    /// The distinct schedules of all views.
    pub fn schedules(&self) -> Vec<(i64, i64)> {
        self.schedules.keys().copied().collect()
    }

    /// How many messages wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.own.len()
    }
}

fn count(schedules: &mut BTreeMap<(i64, i64), usize>, slots: EvaluationTimes, more: bool) {
    let EvaluationTimes::Every(interval, offset) = slots else { return };
    let views = schedules.entry((interval, offset)).or_default();
    *views = if more { *views + 1 } else { views.saturating_sub(1) };
    if *views == 0 {
        schedules.remove(&(interval, offset));
    }
}

/// Views of these cohorts are due when they will be, and no more when they were before.
fn begin(
    slots: &mut HashMap<ViewId, Vec<(EvaluationTimes, InstallBatchId)>>,
    schedules: &mut BTreeMap<(i64, i64), usize>,
    which: impl Fn(InstallBatchId) -> bool,
) {
    for known in slots.values_mut().filter(|known| known.len() > 1) {
        if let Some(at) = known.iter().rposition(|(_, cohort)| which(*cohort)) {
            known.drain(..at).for_each(|(before, _)| count(schedules, before, false));
        }
    }
}

fn deliver(undelivered: &mut BTreeMap<InstallBatchId, usize>, cohort: InstallBatchId) {
    if let Some(views) = undelivered.get_mut(&cohort) {
        *views -= 1;
        if *views == 0 {
            undelivered.remove(&cohort);
        }
    }
}
