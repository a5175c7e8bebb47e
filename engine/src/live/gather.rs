//! The gather executor, one per worker thread: it evaluates the gather stage of the views that the
//! worker owns (what merges the rows of all shards), records the answers and sends them to taps
//! (the consumers of a view).
//!
//! A tick has rounds: a view that reads the recorded series of another is evaluated in a later
//! round than that one. Like [`super::local`] this code knows nothing of the dataflow library: it
//! receives port deltas (changed rows of the local stage) and control messages, and each round
//! returns the samples that were recorded. Read [`super::message`] for what it receives;
//! [`crate::live`] explains the words.

mod describe;
mod due_views;
mod first_answers;
mod garbage;
mod outputs;
mod port;
mod ports;
mod store_steps;
mod view_check;
mod view_state;
mod votes;

use super::cost::{CostLedger, StepTimer};
use super::message::{InstallBatchId, PortDelta, WorkerVote};
use super::recorder::Recorder;
use super::store_query::StoreQuerier;
use super::sweep_clock::SweepClock;
use super::taps::PendingSinks;
use super::topology::WorkerTopology;
use super::views::{EvaluationTimes, ReleasedView, ViewRequest, ViewTable};
use super::{TapId, ViewId};
use crate::limits::FIRST_ANSWER_ROWS;
use crate::memory::ViewMemory;
use crate::operators::DuplicateLabels;
use crate::operators::evaluation_guard::EvaluationGuard;
use crate::operators::stage::{Stage, StageHooks, StepChange};
use crate::operators::step_set::StepSet;
use crate::plan::Dialect;
use crate::plan::physical::{StepId, StepOp};
use due_views::DueViews;
use first_answers::FirstAnswers;
use outputs::ViewOutputs;
use port::GatherPort;
use ports::GatherPorts;
use std::sync::Arc;
use storage::metrics::Counter;
use storage::model::{Matcher, TimeMs};
use storage::store::{ChangeEvent, Store};
use store_steps::StoreSteps;
use view_check::ViewCheck;
use view_state::annotations;
use votes::VoteCount;

/// What a gather executor works with. The workers of a process share it.
#[derive(Clone)]
pub struct GatherServices {
    /// Where answers are recorded.
    pub store: Arc<Store>,
    /// Runs the steps that query the store.
    pub querier: Arc<StoreQuerier>,
    /// Sinks that wait for the worker that owns their view.
    pub pending_sinks: PendingSinks,
    /// The feature flags of the query language that change results.
    pub dialect: Dialect,
    /// The limit of the labels that steps create.
    pub memory: ViewMemory,
    /// Gets the cost of evaluations.
    pub ledger: Arc<CostLedger>,
    /// What it counts.
    pub counters: GatherCounters,
}

/// The counters of a gather executor.
#[derive(Clone)]
pub struct GatherCounters {
    /// Evaluations of views.
    pub evaluations: Arc<Counter>,
    /// Evaluations that failed.
    pub failures: Arc<Counter>,
    /// Rows that evaluations read.
    pub rows_touched: Arc<Counter>,
}

/// The state of the gather stage in one worker.
pub struct GatherExecutor {
    /// Where answers are recorded.
    store: Arc<Store>,
    /// Which views there are, and which steps each of them has.
    views: ViewTable,
    /// The steps, with their operators and rows.
    stage: Stage,
    /// The rows that the local stages have sent.
    ports: GatherPorts,
    /// The steps that query the store.
    store_steps: StoreSteps,
    /// Where answers go.
    outputs: ViewOutputs,
    /// Which views must be answered.
    due: DueViews,
    /// Which views have just begun.
    first_answers: FirstAnswers,
    /// What the workers vote for in this tick.
    votes: VoteCount,
    /// The time that evaluations take.
    meter: StepTimer,
    counters: GatherCounters,
    /// When rows without values were last counted.
    sweep: SweepClock,
    /// The check of a view.
    check: ViewCheck,
    /// Time of the latest tick.
    now: TimeMs,
}

/// What is left to prepare.
#[derive(Copy, Clone, Debug, Default)]
pub struct RemainingWork {
    /// Some view has not begun. There may be more to do after the next tick, or once its history is
    /// read.
    pub pending: bool,
    /// There is more to do now.
    pub ready_now: bool,
}

impl GatherExecutor {
    /// The executor of the worker at `topology`.
    pub fn new(topology: WorkerTopology, services: GatherServices) -> GatherExecutor {
        let GatherServices { store, querier, pending_sinks, dialect, memory, ledger, counters } = services;
        GatherExecutor {
            store,
            views: ViewTable::new(topology, dialect),
            stage: Stage::for_views(dialect, memory),
            ports: GatherPorts::default(),
            store_steps: StoreSteps::new(querier),
            outputs: ViewOutputs::new(pending_sinks, ledger.clone()),
            due: DueViews::default(),
            first_answers: FirstAnswers::default(),
            votes: VoteCount::default(),
            meter: StepTimer::new(ledger),
            counters,
            sweep: SweepClock::default(),
            check: ViewCheck::default(),
            now: TimeMs::MIN,
        }
    }

    /// Adds a view to an install batch.
    pub fn install(&mut self, id: ViewId, request: ViewRequest, batch: InstallBatchId) {
        // The runtime has checked the plan before: every worker comes to the same result.
        let Ok(added) = self.views.install(id, request, batch) else { return };
        for step in added.gather {
            let Some(definition) = self.views.gather.step(step) else { continue };
            self.stage.insert(step, definition.clone());
            match &definition.op {
                StepOp::Port(local) => {
                    self.ports.add(*local, GatherPort::new(step, self.views.topology().all_shards()));
                }
                StepOp::StoreQuery(query) => {
                    let operator = self.store_steps.add(step, query.clone(), batch, self.now);
                    self.stage.set_operator(step, operator);
                }
                _ => {}
            }
        }
        // After the new steps were added: steps that both versions have must not be removed and
        // made again.
        if let Some(released) = added.replaced {
            self.release(released);
        }
        // The table and the steps are the same in every worker. Only the owner has the state of the
        // answer.
        let own = self.views.all.get(&id).filter(|view| view.owner == self.views.topology().index());
        let Some(view) = own else { return };
        self.outputs.add(id, &view.spec);
    }

    /// Begins an install batch; `None`: all views that are being installed. Consumers of views that
    /// existed before get a new snapshot. Returns the stale markers of series that are not recorded
    /// any more.
    pub fn begin(&mut self, batch: Option<InstallBatchId>, t: TimeMs) -> Vec<ChangeEvent> {
        let mut ended = Vec::new();
        // Answers are part of this tick now, also those that were left for a preparation.
        if batch.is_none() {
            for id in &self.first_answers.views {
                self.due.mark_due(*id);
            }
        }
        for (id, replaced) in self.views.begin(batch) {
            if let Some(released) = replaced {
                self.release(released);
            }
            let Some(view) = self.views.all.get(&id) else { continue };
            let Some(state) = self.outputs.get_mut(id) else { continue };
            let answer = self.views.gather.step(view.root);
            // No operator has checked such an answer: two shards may have rows with the same
            // labels.
            let of_port = answer.is_some_and(|step| matches!(step.op, StepOp::Port(_)));
            state.duplicates = of_port.then(DuplicateLabels::default);
            // Rows may have got other numbers, so a delta would mean nothing to consumers.
            state.taps.restart();
            state.history.restart();
            ended.extend(state.record_as(&view.spec, t, &self.store));
            self.first_answers.views.push_back(id);
            self.due.add(id, view);
            match batch {
                // With `BeginAll` the first answer is part of this tick.
                None => self.due.mark_due(id),
                Some(_) => self.first_answers.steps.extend(&view.gather.iter().copied().collect()),
            }
        }
        ended
    }

    /// Has the state of all views that read a selector built again; see
    /// [`super::local::LocalExecutor::rebuild`].
    pub fn rebuild(&mut self, selector: Option<&[Matcher]>, batch: InstallBatchId) {
        for (id, request) in self.views.retire(selector) {
            self.install(id, request, batch);
        }
    }

    /// Removes a view. Returns the stale markers of its recorded series.
    pub fn remove(&mut self, id: ViewId, t: TimeMs) -> Vec<ChangeEvent> {
        for released in self.views.remove(id) {
            self.release(released);
        }
        self.due.remove(id);
        let Some(state) = self.outputs.remove(id) else { return Vec::new() };
        state.recorder.map_or_else(Vec::new, |mut recorder| recorder.end(t, &self.store))
    }

    /// Removes the steps that no view reads any more.
    fn release(&mut self, released: ReleasedView) {
        for (id, step) in released.gather {
            self.stage.remove(id);
            self.store_steps.remove(id);
            if let StepOp::Port(local) = step.op {
                self.ports.remove(local);
            }
        }
    }

    /// Attaches a consumer, if this worker owns the view.
    pub fn tap(&mut self, view: ViewId, tap: TapId) {
        let Some(attached) = self.outputs.attach(view, tap) else { return };
        if attached.wants_annotations {
            self.due.follow_annotations(view);
        }
        self.due.mark_due(view);
    }

    /// Detaches a consumer.
    pub fn untap(&mut self, tap: TapId) {
        if let Some(view) = self.outputs.detach(tap) {
            self.due.mark_due(view);
        }
    }

    /// Takes a delta of a port, and the votes of a worker.
    pub fn delta(&mut self, mut delta: PortDelta) {
        self.votes.add(&delta.votes);
        // Arrive after the last round of the tick, from every worker, in any order.
        self.check.reports.append(&mut delta.checks);
        self.ports.deliver(delta);
    }

    /// The votes of this tick that decide.
    pub fn take_decided_votes(&mut self) -> Vec<WorkerVote> {
        self.votes.take_decided(self.views.peers())
    }

    /// Number of the last round of the tick at `t`.
    pub fn last_round(&mut self, t: TimeMs) -> u64 {
        self.views.refresh();
        let checked = self.checked_view().map_or(0, |view| view.round);
        // A check evaluates its view in its own round, even if the view is not due in this tick.
        self.views.last_round(t).max(checked)
    }

    /// Evaluates what is due in a round. Returns the recorded samples.
    pub fn round(&mut self, t: TimeMs, round: u64) -> Vec<ChangeEvent> {
        self.now = t;
        self.meter.begin(t, self.views.local.len());
        self.apply_arrived();
        let mut steps = StepSet::default();
        let mut views = 0;
        for batch in self.views.due(t, round) {
            steps.extend(&batch.gather);
            views += batch.own;
        }
        if let Some(view) = self.checked_view().filter(|view| view.round == round) {
            steps.extend(&view.gather.iter().copied().collect());
        }
        // Views whose answer cannot have changed count as evaluated, too.
        self.counters.evaluations.add(views as u64);
        self.eval(&steps, t);
        let mut recorded = Vec::new();
        let answered = self.due.take_due(&self.views, t, round);
        for id in &answered {
            self.answer(*id, t, &mut recorded);
            self.meter.answer(*id);
        }
        let answers = answered.len();
        let batches = recorded.len();
        tracing::debug!(target: "live::tick", t, round, due = views, answers, batches, "a gather stage has answered and recorded its views");
        // A view may have been marked for its consumers before it was removed.
        let own = answered.iter().filter(|id| self.outputs.contains(**id));
        let own = own.filter_map(|id| Some((*id, self.views.all.get(id)?.gather.as_slice())));
        self.meter.book(t, &self.views.gather, own);
        recorded
    }

    /// Sends and records the answer of a view at `t`; recorded samples are added to `recorded`.
    fn answer(&mut self, id: ViewId, t: TimeMs, recorded: &mut Vec<ChangeEvent>) {
        let Some(state) = self.outputs.get_mut(id) else { return };
        let Some(view) = self.views.all.get(&id) else { return };
        let out = self.stage.output(view.root);
        // Collecting annotations walks all steps of the view.
        let annotations = if state.taps.want_annotations() {
            annotations(view, &self.stage, &self.ports)
        } else {
            Vec::new()
        };
        match state.answer(t, out, annotations, &self.store, recorded) {
            Ok(()) => {
                state.history.answered(t, out.version);
                state.counts.answered(state.recorder.as_ref().map_or(0, Recorder::samples));
            }
            Err(error) => {
                self.counters.failures.inc();
                tracing::debug!(
                    target: "live::tick",
                    view = view.spec.name,
                    %error,
                    "a view cannot be evaluated: the next tick tries again"
                );
                state.history.failed(t, error.to_string());
                // Retried in the next tick, whether or not its inputs change.
                state.counts.failed();
                self.due.mark_due(id);
            }
        }
        // Consumers must hear of progress even if nothing changes.
        if let Some(at) = state.taps.next_progress() {
            self.due.schedule(id, at);
        }
    }

    /// Works on views that are being installed, as of the previous tick. Views that have begun send
    /// their first answer here, a few at a time, so that no tick has to send all of them. Views
    /// that were replaced are answered in the tick that replaces them.
    pub fn prepare(&mut self) {
        self.apply_arrived();
        self.views.refresh();
        // Steps of pending views are evaluated here and not in a tick, because their first
        // evaluation reads all rows.
        let mut due = self.views.pending_steps().1.clone();
        due.extend(&std::mem::take(&mut self.first_answers.steps));
        self.eval(&due, self.now);
        let mut rows = 0;
        // At least one view each time, however large it is.
        while rows < FIRST_ANSWER_ROWS
            && let Some(id) = self.first_answers.views.pop_front()
        {
            rows += self.first_answer(id);
        }
    }

    /// Prepares the outputs of a view for its rows, and answers it if it is continuous. Returns
    /// about how many rows that has read.
    fn first_answer(&mut self, id: ViewId) -> usize {
        let Some(view) = self.views.all.get(&id) else { return 0 };
        let Some(state) = self.outputs.get_mut(id) else { return 0 };
        let out = self.stage.output(view.root);
        let rows = 1 + out.labels.len();
        if let Some(recorder) = &mut state.recorder {
            recorder.add_rows(out, &self.store);
        }
        if let Some(duplicates) = &mut state.duplicates {
            // Cannot fail: this guard has no limits.
            let _ = duplicates.add_rows(out, &mut EvaluationGuard::free());
        }
        if view.times == EvaluationTimes::EveryTick {
            // Only views with evaluation times record, so nothing is added.
            self.answer(id, self.now, &mut Vec::new());
        }
        rows
    }

    /// What is left to prepare.
    pub fn remaining_work(&self) -> RemainingWork {
        RemainingWork {
            pending: self.views.pending().next().is_some(),
            ready_now: !self.first_answers.views.is_empty(),
        }
    }

    /// Applies the deltas that have arrived.
    fn apply_arrived(&mut self) {
        let changes = self.ports.apply_arrived(&mut self.stage, &mut self.meter);
        self.due.annotations_changed |= changes.annotations;
        for step in changes.steps {
            self.due.step_changed(step);
        }
    }

    /// Evaluates the steps that are due and whose inputs have changed.
    fn eval(&mut self, due: &StepSet, t: TimeMs) {
        let mut hooks = GatherHooks { due: &mut self.due, meter: &mut self.meter };
        let rows = self.stage.eval_round(due, t, &mut hooks);
        self.counters.rows_touched.add(rows as u64);
    }
}

/// Records which views must be answered because a step has changed.
struct GatherHooks<'a> {
    due: &'a mut DueViews,
    meter: &'a mut StepTimer,
}

impl StageHooks for GatherHooks<'_> {
    fn evaluated(&mut self, step: StepId, change: StepChange) {
        self.due.annotations_changed |= change.annotations;
        if change.rows {
            self.due.step_changed(step);
        }
        self.meter.step(step);
    }
}
