//! The gather executor, one per worker: it evaluates the gather stage of the views that the worker
//! owns, records the answers and sends them to taps.
//!
//! Like [`super::local`] it does not depend on timely: it receives port deltas and control
//! messages, and each round returns the samples that were recorded.

mod describe;
mod due_views;
mod port;
mod state;

use super::cost::{CostLedger, StepTimer};
use super::message::{InstallBatchId, PortDelta, WorkerVote};
use super::recorder::Recorder;
use super::store_query::{StoreQuerier, StoreStep};
use super::taps::PendingSinks;
use super::topology::WorkerTopology;
use super::views::{EvaluationTimes, ReleasedView, ViewRequest, ViewTable};
use super::{TapId, ViewId};
use crate::limits::{DEAD_ROWS, LEARNT_ROWS, SWEEP_MS};
use crate::memory::ViewMemory;
use crate::operators::DuplicateLabels;
use crate::operators::evaluation_guard::EvaluationGuard;
use crate::operators::stage::Stage;
use crate::operators::step_set::StepSet;
use crate::plan::Dialect;
use crate::plan::physical::{Step, StepId, StepOp};
use due_views::DueViews;
use port::GatherPort;
use state::{ViewState, annotations};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use storage::metrics::Counter;
use storage::model::{Matcher, TimeMs};
use storage::store::{ChangeEvent, Store};

/// The state of the gather stage in one worker.
pub struct GatherExecutor {
    place: WorkerTopology,
    store: Arc<Store>,
    views: ViewTable,
    stage: Stage,
    /// By local step: the rows that the shards sent.
    ports: HashMap<StepId, GatherPort>,
    asker: Arc<StoreQuerier>,
    /// Steps whose operators query the store.
    store_steps: HashMap<StepId, Arc<StoreStep>>,
    /// Deltas that arrived since the last round.
    arrived: Vec<PortDelta>,
    /// Ports that received a delta since the last round.
    touched: Vec<StepId>,
    states: BTreeMap<ViewId, ViewState>,
    taps: HashMap<TapId, ViewId>,
    awake: DueViews,
    /// Views with a consumer that wants annotations.
    noted: BTreeSet<ViewId>,
    /// Some annotation has changed since the last round.
    renoted: bool,
    /// Votes of this tick, with the number of workers that cast them.
    verdicts: BTreeMap<WorkerVote, usize>,
    waiting: PendingSinks,
    ledger: Arc<CostLedger>,
    meter: StepTimer,
    /// When accumulated rows were last counted.
    swept: TimeMs,
    /// The view that this tick evaluates for a check.
    checked: Option<ViewId>,
    /// Time of the latest tick.
    now: TimeMs,
    failures: Arc<Counter>,
    evaluations: Arc<Counter>,
    rows_touched: Arc<Counter>,
    /// Views that became active but have not sent their first answer. Preparations work through
    /// this queue, so that no single tick has to send all of them.
    unlearnt: VecDeque<ViewId>,
    /// The steps of views that began: no tick since the latest preparation has evaluated them.
    begun: StepSet,
}

/// What is left to prepare.
#[derive(Copy, Clone, Debug, Default)]
pub struct RemainingWork {
    /// Some view has not begun. There may be more to do after the next tick, or once its history is
    /// read.
    pub coming: bool,
    /// There is more to do now.
    pub at_once: bool,
}

impl GatherExecutor {
    /// The executor of the worker at `place`. The counters: evaluations, failed evaluations, rows
    /// that evaluations read.
    pub fn new(
        place: WorkerTopology,
        (store, asker): (Arc<Store>, Arc<StoreQuerier>),
        waiting: PendingSinks,
        (dialect, memory): (Dialect, ViewMemory),
        ledger: Arc<CostLedger>,
        counters: [Arc<Counter>; 3],
    ) -> GatherExecutor {
        let [evaluations, failures, rows_touched] = counters;
        GatherExecutor {
            place,
            store,
            views: ViewTable::new(place, dialect),
            stage: Stage::of_views(dialect, memory),
            ports: HashMap::new(),
            asker,
            store_steps: HashMap::new(),
            arrived: Vec::new(),
            touched: Vec::new(),
            states: BTreeMap::new(),
            taps: HashMap::new(),
            awake: DueViews::default(),
            noted: BTreeSet::new(),
            renoted: false,
            verdicts: BTreeMap::new(),
            waiting,
            meter: StepTimer::new(ledger.clone()),
            ledger,
            swept: 0,
            checked: None,
            now: TimeMs::MIN,
            failures,
            evaluations,
            rows_touched,
            unlearnt: VecDeque::new(),
            begun: StepSet::default(),
        }
    }

    /// Adds a view to an install batch.
    pub fn install(&mut self, id: ViewId, wanted: ViewRequest, cohort: InstallBatchId) {
        let Ok(added) = self.views.install(id, wanted, cohort) else { return };
        for step in added.gather {
            let Some(step_ref) = self.views.gather.step(step) else { continue };
            self.stage.put(step, step_ref.clone());
            match &step_ref.op {
                StepOp::Port(local) => {
                    self.ports.insert(*local, GatherPort::new(step, self.place.wide_shards()));
                }
                StepOp::StoreQuery(query) => {
                    let asks = self.asker.step(query.clone(), cohort, self.now);
                    self.stage.set_operator(step, asks.operator());
                    self.store_steps.insert(step, asks);
                }
                _ => {}
            }
        }
        added.gone.into_iter().for_each(|gone| self.forget(gone));
        let Some(view) = self.views.all.get(&id).filter(|view| view.owner == self.place.index()) else {
            return;
        };
        // A view that is being replaced keeps its state until the new plan begins.
        self.states.entry(id).or_insert_with(|| ViewState::new(&view.spec, self.ledger.open(id)));
    }

    /// Begins an install batch; `None`: all views that are being installed. Consumers of views that
    /// existed before get a new snapshot. Returns the stale markers of series that are not recorded
    /// any more.
    pub fn begin(&mut self, cohort: Option<InstallBatchId>, t: TimeMs) -> Vec<ChangeEvent> {
        let mut ended = Vec::new();
        if cohort.is_none() {
            self.unlearnt.iter().for_each(|id| self.awake.wake(*id));
        }
        for (id, gone) in self.views.begin(cohort) {
            for gone in gone.into_iter() {
                self.forget(gone);
            }
            let (Some(view), Some(state)) = (self.views.all.get(&id), self.states.get_mut(&id)) else {
                continue;
            };
            let answer = self.views.gather.step(view.root);
            let of_port = answer.is_some_and(|step| matches!(step.op, StepOp::Port(_)));
            state.twins = of_port.then(DuplicateLabels::default);
            state.taps.restart();
            state.past.restart();
            ended.extend(state.record_as(&view.spec, t, &self.store));
            self.unlearnt.push_back(id);
            self.awake.add(id, view);
            match cohort {
                // With `BeginAll` the first answer is part of this tick.
                None => self.awake.wake(id),
                Some(_) => self.begun.extend(&view.gather.iter().copied().collect()),
            }
        }
        ended
    }

    /// Has the state of all views that read a selector built again; see
    /// [`super::local::LocalExecutor::renew`].
    pub fn renew(&mut self, selector: Option<&[Matcher]>, cohort: InstallBatchId) {
        for (id, wanted) in self.views.retire(selector) {
            self.install(id, wanted, cohort);
        }
    }

    /// Removes a view. Returns the stale markers of its recorded series.
    pub fn remove(&mut self, id: ViewId, t: TimeMs) -> Vec<ChangeEvent> {
        self.views.remove(id).into_iter().for_each(|gone| self.forget(gone));
        self.ledger.forget(id);
        self.awake.remove(id);
        self.noted.remove(&id);
        let Some(state) = self.states.remove(&id) else { return Vec::new() };
        for tap in state.taps.ids() {
            self.taps.remove(&tap);
        }
        state.recorder.map_or_else(Vec::new, |mut recorder| recorder.end(t, &self.store))
    }

    /// Removes the steps that no view reads any more.
    fn forget(&mut self, gone: ReleasedView) {
        for (id, step) in gone.gather {
            self.stage.remove(id);
            self.store_steps.remove(&id);
            if let StepOp::Port(local) = step.op {
                self.ports.remove(&local);
            }
        }
    }

    /// Attaches a consumer, if this worker owns the view.
    pub fn tap(&mut self, view: ViewId, tap: TapId) {
        let Some(state) = self.states.get_mut(&view) else { return };
        let sink = self.waiting.lock().remove(&tap);
        if let Some(sink) = sink {
            if sink.wants_notes() {
                self.noted.insert(view);
            }
            state.taps.add(tap, sink);
            self.taps.insert(tap, view);
            self.awake.wake(view);
        }
    }

    /// Detaches a consumer.
    pub fn untap(&mut self, tap: TapId) {
        self.waiting.lock().remove(&tap);
        let view = self.taps.remove(&tap);
        if let Some(state) = view.and_then(|view| self.states.get_mut(&view)) {
            state.taps.remove(tap);
        }
        for view in view.into_iter() {
            self.awake.wake(view);
        }
    }

    /// Takes a delta of a port, and the votes of a worker.
    pub fn delta(&mut self, delta: PortDelta) {
        for verdict in delta.verdicts.iter().cloned() {
            *self.verdicts.entry(verdict).or_default() += 1;
        }
        self.arrived.push(delta);
    }

    fn apply(&mut self, delta: PortDelta) {
        let local = delta.port as StepId;
        self.renoted |= delta.notes.is_some();
        if let Some(port) = self.ports.get_mut(&local) {
            if port.touched.is_empty() && !port.all {
                self.touched.push(local);
            }
            port.apply(delta, self.stage.output_mut(port.step));
            self.meter.step(port.step);
        }
    }

    /// The votes of this tick that decide: all workers are ready, or any worker reports garbage.
    pub fn verdicts(&mut self) -> Vec<WorkerVote> {
        let all = self.views.peers();
        let agreed = |(verdict, workers): &(WorkerVote, usize)| match verdict {
            WorkerVote::Ready(_) => *workers == all,
            WorkerVote::Garbage(_) => true,
        };
        std::mem::take(&mut self.verdicts).into_iter().filter(agreed).map(|(verdict, _)| verdict).collect()
    }

    /// Selectors of views in which steps have accumulated rows without values: `count_values`, for
    /// example, keeps a row for each value that ever occurred. Checked about once a minute.
    pub fn garbage(&mut self, t: TimeMs) -> Vec<Vec<Matcher>> {
        if (t - self.swept).abs() < SWEEP_MS {
            return Vec::new();
        }
        self.swept = t;
        let rows = |step: &StepId| self.stage.output(*step).labels.len();
        let piled_up = |step: &StepId| {
            let of_inputs = |step: &Step| step.inputs.iter().map(rows).sum::<usize>();
            let (rows, inputs) =
                (rows(step), self.views.gather.step(*step).map_or(0, |step| of_inputs(step)));
            inputs > 0 && rows > inputs.max(DEAD_ROWS) && {
                rows > 2 * self.stage.output(*step).present().count() + DEAD_ROWS
            }
        };
        let own = self.states.keys().filter_map(|id| self.views.all.get(id));
        let full = own.filter(|view| view.gather.iter().any(piled_up));
        let leaves = full.flat_map(|view| &view.local).filter_map(|step| self.views.local.step(*step));
        let mut selectors: Vec<Vec<Matcher>> = Vec::new();
        for step in leaves {
            if let StepOp::Leaf(source, _) = &step.op
                && !selectors.contains(&source.matchers)
            {
                selectors.push(source.matchers.clone());
            }
        }
        selectors
    }

    /// Number of the last round of the tick at `t`.
    pub fn last_round(&mut self, t: TimeMs) -> u64 {
        self.views.settle();
        let checked = self.checked_view().map_or(0, |view| view.level);
        self.views.last_round(t).max(checked)
    }

    /// Evaluates what is due in a round. Returns the recorded samples.
    pub fn round(&mut self, t: TimeMs, round: u64) -> Vec<ChangeEvent> {
        self.now = t;
        self.meter.begin(t, self.views.local.len());
        self.take_arrived();
        let mut steps = StepSet::default();
        let mut views = 0;
        for batch in self.views.due(t, round) {
            steps.extend(&batch.gather);
            views += batch.own;
        }
        if let Some(view) = self.checked_view().filter(|view| view.level == round) {
            steps.extend(&view.gather.iter().copied().collect());
        }
        // Views whose answer cannot have changed count as evaluated, too.
        self.evaluations.add(views as u64);
        self.eval(&steps, t);
        if std::mem::take(&mut self.renoted) {
            self.noted.iter().for_each(|id| self.awake.wake(*id));
        }
        let mut recorded = Vec::new();
        let looked_at = self.awake.take(&self.views, t, round);
        for id in &looked_at {
            self.answer(*id, t, &mut recorded);
            self.meter.answer(*id);
        }
        let answers = looked_at.len();
        let batches = recorded.len();
        tracing::debug!(target: "live::tick", t, round, due = views, answers, batches, "answers are given and recorded");
        let own = looked_at.iter().filter(|id| self.states.contains_key(id));
        let own = own.filter_map(|id| Some((*id, self.views.all.get(id)?.gather.as_slice())));
        self.meter.book(t, &self.views.gather, own);
        recorded
    }

    /// Sends and records the answer of a view at `t`; recorded samples are added to `recorded`.
    fn answer(&mut self, id: ViewId, t: TimeMs, recorded: &mut Vec<ChangeEvent>) {
        let (Some(state), Some(view)) = (self.states.get_mut(&id), self.views.all.get(&id)) else {
            return;
        };
        let out = self.stage.output(view.root);
        let notes =
            if state.taps.want_notes() { annotations(view, &self.stage, &self.ports) } else { Vec::new() };
        match state.answer(t, out, notes, (&self.store, recorded)) {
            Ok(()) => {
                state.past.answered(t, out.version);
                state.counts.answered(state.recorder.as_ref().map_or(0, Recorder::samples));
            }
            Err(error) => {
                self.failures.inc();
                tracing::debug!(view = view.spec.name, %error, "evaluation failed");
                state.past.failed(t, error);
                // Retried in the next tick, whether or not its inputs change.
                state.counts.failed();
                self.awake.wake(id);
            }
        }
        if let Some(at) = state.taps.next_progress() {
            self.awake.call(id, at);
        }
    }
}

impl GatherExecutor {
    /// Works on views that are being installed, as of the previous tick. Views that have begun send
    /// their first answer here, a few at a time, so that no tick has to send all of them. Views
    /// that were replaced are answered in the tick that replaces them.
    pub fn prepare(&mut self) {
        self.take_arrived();
        self.views.settle();
        let mut due = self.views.coming_steps().1.clone();
        due.extend(&std::mem::take(&mut self.begun));
        self.eval(&due, self.now);
        let mut rows = 0;
        while rows < LEARNT_ROWS
            && let Some(id) = self.unlearnt.pop_front()
        {
            let (Some(view), Some(state)) = (self.views.all.get(&id), self.states.get_mut(&id)) else {
                continue;
            };
            let out = self.stage.output(view.root);
            rows += 1 + out.labels.len();
            state.recorder.iter_mut().for_each(|recorder| recorder.learn(out, &self.store));
            // Cannot fail: this guard has no limits.
            state.twins.iter_mut().for_each(|twins| drop(twins.learn(out, &mut EvaluationGuard::free())));
            if view.slots == EvaluationTimes::Always {
                // Only views with evaluation times record, so nothing is added.
                self.answer(id, self.now, &mut Vec::new());
            }
        }
    }

    /// What is left to prepare.
    pub fn left(&self) -> RemainingWork {
        RemainingWork { coming: self.views.coming().next().is_some(), at_once: !self.unlearnt.is_empty() }
    }

    /// Applies the deltas that have arrived, and marks the steps that read these ports.
    fn take_arrived(&mut self) {
        for delta in std::mem::take(&mut self.arrived) {
            self.apply(delta);
        }
        for local in std::mem::take(&mut self.touched) {
            let Some(port) = self.ports.get_mut(&local) else { continue };
            if port.publish(self.stage.output_mut(port.step)) {
                self.stage.changed(port.step);
                self.awake.changed(port.step);
            }
        }
    }

    /// Evaluates the steps that are due and whose inputs have changed, in order of dependency.
    fn eval(&mut self, due: &StepSet, t: TimeMs) {
        let mut from = 0;
        let mut touched = 0;
        self.stage.begin();
        while let Some(step) = self.stage.next(due, from) {
            let versions = |stage: &Stage| (stage.output(step).version, stage.output(step).notes.version());
            let before = versions(&self.stage);
            if self.stage.eval(step, t) {
                touched += self.stage.output(step).rows_looked_at;
            }
            let after = versions(&self.stage);
            self.renoted |= after.1 != before.1;
            if after.0 != before.0 {
                self.stage.changed(step);
                self.awake.changed(step);
            }
            self.meter.step(step);
            from = step + 1;
        }
        self.rows_touched.add(touched as u64);
    }
}
