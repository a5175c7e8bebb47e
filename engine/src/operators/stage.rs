//! A stage: the steps of a plan in order of dependency, with their operators and their current
//! rows.
//!
//! The live runtime has a local stage per shard and a gather stage per worker that owns views, a
//! query one of each. A step is evaluated when the version of one of its inputs has changed since
//! its last evaluation, or when its value depends on time.
//!
//! The operator and the rows of a step are created when its inputs have rows. Most rules of a large
//! collection find series in few shards or in none, and a thousand rules have five thousand steps
//! in each shard.

use super::evaluation_guard::EvaluationGuard;
use super::step_set::StepSet;
use super::{ChangedRows, EvalError, Operator, StepInput, StepOutput, build};
use crate::annotations::AnnotationSet;
use crate::annotations::StepOrigin;
use crate::heap_size::HeapSize;
use crate::memory::{MemoryReservation, ViewMemory};
use crate::plan::Dialect;
use crate::plan::physical::{Step, StepId, StepOp};
use std::sync::{Arc, LazyLock};
use storage::model::TimeMs;

/// One step of a stage.
struct StageStep {
    step: Arc<Step>,
    /// Steps that read this one.
    readers: Vec<StepId>,
    /// `None`: the step was not evaluated yet.
    work: Option<Box<StepState>>,
}

/// The state of a step that was evaluated.
struct StepState {
    /// The code and state of the step; `None`: its inputs have no rows yet.
    operator: Option<Box<dyn Operator>>,
    /// Versions of the inputs at the last evaluation.
    seen: Vec<u64>,
    /// Whether the operator has been evaluated.
    evaluated: bool,
    /// The labels that the step has created, in the live runtime.
    labels: Option<MemoryReservation>,
}

impl StageStep {
    /// The state of the step, created if needed.
    fn work(&mut self, dialect: Dialect, memory: Option<&ViewMemory>) -> &mut StepState {
        let step = &self.step;
        self.work.get_or_insert_with(|| {
            Box::new(StepState {
                operator: build(&step.op, dialect),
                seen: vec![0; step.inputs.len()],
                evaluated: false,
                labels: memory.map(ViewMemory::reservation),
            })
        })
    }
}

/// The steps of a stage. Indices are those of the steps; removed steps leave a gap.
#[derive(Default)]
pub struct Stage {
    dialect: Dialect,
    /// Boxed, because many numbers belong to steps of other stages: then a gap costs only a
    /// pointer.
    steps: Vec<Option<Box<StageStep>>>,
    outputs: Vec<Option<Box<StepOutput>>>,
    /// Steps with a changed input, and steps that were never evaluated.
    dirty: StepSet,
    /// Steps whose value depends on time: they are evaluated whenever they are due.
    time_dependent: StepSet,
    /// The time of the latest round, and of the latest one before that time. Steps that depend on
    /// time have moved since then.
    now: TimeMs,
    before: TimeMs,
    /// The limit of the labels that steps create, in the live runtime.
    labels: Option<ViewMemory>,
}

impl Stage {
    /// An empty stage.
    pub fn new(dialect: Dialect) -> Stage {
        Stage { dialect, ..Stage::default() }
    }

    /// An empty stage for views; the labels that their steps create count in `memory`.
    pub fn for_views(dialect: Dialect, memory: ViewMemory) -> Stage {
        Stage { labels: Some(memory), ..Stage::new(dialect) }
    }

    /// A stage with these steps.
    pub fn with_steps(steps: &[Step], dialect: Dialect) -> Stage {
        let mut stage = Stage::new(dialect);
        for (id, step) in steps.iter().enumerate() {
            stage.insert(id, Arc::new(step.clone()));
        }
        stage
    }

    /// Adds a step under a free number. Its inputs must have been added before.
    pub fn insert(&mut self, id: StepId, step: Arc<Step>) {
        if self.steps.len() <= id {
            // Numbers are given by the graph of all views, so they come in any order and with gaps.
            self.steps.resize_with(id + 1, || None);
            self.outputs.resize_with(id + 1, || None);
        }
        for input in &step.inputs {
            if let Some(node) = &mut self.steps[*input] {
                node.readers.push(id);
            }
        }
        self.dirty.insert(id);
        // Such a step has no input whose change would mark it.
        if step.op.follows_clock() {
            self.time_dependent.insert(id);
        }
        self.steps[id] = Some(Box::new(StageStep { step, readers: Vec::new(), work: None }));
    }

    /// Sets an operator that [`build`] cannot create, because it has rows of its own.
    pub fn set_operator(&mut self, id: StepId, operator: Box<dyn Operator>) {
        let dialect = self.dialect;
        let labels = self.labels.as_ref();
        if let Some(node) = self.steps[id].as_mut() {
            node.work(dialect, labels).operator = Some(operator);
        }
    }

    /// Removes a step without readers, and its state.
    pub fn remove(&mut self, id: StepId) {
        if let Some(node) = self.steps[id].take() {
            for input in &node.step.inputs {
                if let Some(node) = &mut self.steps[*input] {
                    node.readers.retain(|reader| *reader != id);
                }
            }
        }
        self.dirty.remove(id);
        self.time_dependent.remove(id);
        self.outputs[id] = None;
    }

    /// Bytes of a step: its rows and the state of its operator.
    pub fn bytes(&self, id: StepId) -> usize {
        let Some(node) = self.steps.get(id).and_then(Option::as_deref) else { return 0 };
        let work = node.work.as_ref().map_or(0, |work| {
            let own = work.operator.as_ref().map_or(0, |operator| operator.bytes());
            size_of::<StepState>() + work.seen.heap() + own
        });
        let rows = self.outputs[id].as_ref().map_or(0, |out| size_of::<StepOutput>() + out.heap());
        size_of::<StageStep>() + node.readers.heap() + work + rows
    }

    /// The largest step number so far, plus one.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether no step was ever added.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The inputs of a step.
    pub fn inputs(&self, id: StepId) -> &[StepId] {
        self.steps[id].as_ref().map_or(&[], |node| &node.step.inputs)
    }

    /// Whether `from` is `step` or reads it, directly or through other steps.
    pub fn reads(&self, from: StepId, step: StepId) -> bool {
        // Inputs have smaller numbers than their readers.
        from == step || from > step && self.inputs(from).iter().any(|input| self.reads(*input, step))
    }

    /// The rows of a step; empty if the step does not exist.
    pub fn output(&self, id: StepId) -> &StepOutput {
        output_of(&self.outputs, id)
    }

    /// Adds the current annotations of all steps.
    pub fn annotate(
        &self,
        origins: &[StepOrigin],
        into: &mut AnnotationSet,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        for (out, origin) in self.outputs.iter().zip(origins) {
            let Some(out) = out.as_deref().filter(|out| !out.annotations.is_empty()) else { continue };
            for annotation in out.annotations.iter() {
                eval_guard.row()?;
                into.add(annotation, origin);
            }
        }
        Ok(())
    }

    /// The rows of a leaf or port, to be filled by its runtime.
    pub fn output_mut(&mut self, id: StepId) -> &mut StepOutput {
        self.outputs[id].get_or_insert_with(|| Box::new(StepOutput { sorted: true, ..StepOutput::default() }))
    }

    /// Begins a round at `t`: steps that depend on time must be evaluated again.
    fn begin_round(&mut self, t: TimeMs) {
        if t != self.now {
            self.before = self.now;
            self.now = t;
        }
        self.dirty.extend(&self.time_dependent);
    }

    /// The next step at or after `from` that is due and must be evaluated. It is no longer marked
    /// afterwards.
    fn next_due(&mut self, due: &StepSet, from: StepId) -> Option<StepId> {
        let id = self.dirty.next_common(due, from)?;
        self.dirty.remove(id);
        Some(id)
    }

    /// Marks step `id` because something other than its inputs changed: a leaf's samples.
    pub fn mark_dirty(&mut self, id: StepId) {
        self.dirty.insert(id);
    }

    /// Step `id` has changed: marks its readers.
    pub fn mark_readers_dirty(&mut self, id: StepId) {
        let readers = self.steps[id].as_ref().map_or(&[][..], |node| &node.readers);
        for reader in readers.iter() {
            self.dirty.insert(*reader);
        }
    }

    /// Evaluates step `id` at `t` for views; its inputs must have been evaluated at `t`. Leaves and
    /// ports have no operator. Returns whether the step was evaluated.
    pub fn eval(&mut self, id: StepId, t: TimeMs) -> bool {
        let Some(work) = self.work(id) else { return false };
        // Taken out during the evaluation, because the guard borrows it while the stage is borrowed
        // mutably.
        let labels = work.labels.take();
        let evaluated = self.eval_paced(id, t, &mut EvaluationGuard::for_view(labels.as_ref()));
        if let Some(work) = self.steps[id].as_mut().and_then(|node| node.work.as_mut()) {
            work.labels = labels;
        }
        evaluated
    }

    /// The state of step `id`; `None` if it cannot have a result.
    fn work(&mut self, id: StepId) -> Option<&mut StepState> {
        let outputs = &self.outputs;
        let node = self.steps[id].as_mut()?;
        // A step whose inputs are empty gets no operator: see the file's head for how many there
        // would be.
        if node.work.is_none() && inputs_unchanged(&node.step, |input| output_of(outputs, *input)) {
            return None;
        }
        Some(node.work(self.dialect, self.labels.as_ref()))
    }

    /// Evaluates step `id` at `t` within the limits of a query.
    pub fn eval_paced(&mut self, id: StepId, t: TimeMs, eval_guard: &mut EvaluationGuard) -> bool {
        if self.work(id).is_none() {
            return false;
        }
        let Some(StageStep { step, work: Some(work), .. }) = self.steps[id].as_deref_mut() else {
            return false;
        };
        let StepState { operator: Some(operator), seen, evaluated, .. } = &mut **work else { return false };
        // Inputs have smaller numbers, so they are all in the first part, and the second part
        // begins with the own output.
        let (before, rest) = self.outputs.split_at_mut(id);
        let is_stale = |(input, seen): (&StepId, &u64)| output_of(before, *input).version != *seen;
        // A step may be marked although nothing changed for it, as when an input was evaluated for
        // another view.
        if *evaluated && !step.op.follows_clock() && !step.inputs.iter().zip(&*seen).any(is_stale) {
            return false;
        }
        let out = rest[0].get_or_insert_default();
        let moved = step.op.follows_clock().then_some(self.before + 1);
        let input = |(input, seen): (&StepId, &u64)| {
            let out = output_of(before, *input);
            StepInput { out, delta: delta(out, *seen, *evaluated) }
        };
        let inputs: Vec<StepInput> = step.inputs.iter().zip(&*seen).map(input).collect();
        // The first error in the order of the inputs, so that it is the same in both runtimes.
        let failed = inputs.iter().find_map(|input| input.out.error.clone());
        let changed = inputs.iter().filter(|input| input.delta.is_some());
        let since = changed.filter_map(|input| input.out.since).chain(moved).min();
        let version = out.version;
        out.rows_looked_at = 0;
        // Kept until it is known whether this evaluation changes anything, see `finish_output`.
        let latest = std::mem::take(&mut out.changed);
        let rows = out.labels.len();
        let mut result =
            failed.map_or_else(|| operator.eval(&inputs, t, out, eval_guard), |error| Err(EvalError(error)));
        debug_assert!(
            out.labels.len() >= rows,
            "clause 5 of the contract of `Operator`: rows are not removed"
        );
        if result.is_ok() {
            debug_assert!(has_listed_rows(out), "clause 6 of the contract of `Operator`: changed rows exist");
            result = eval_guard.new_rows(out.labels.len() - rows).and_then(|()| eval_guard.count_pending());
        }
        // Also after an error: `evaluated` makes the next call see all rows as changed anyway.
        for (seen, input) in seen.iter_mut().zip(&step.inputs) {
            *seen = output_of(before, *input).version;
        }
        *evaluated = finish_output(out, result, latest);
        if out.version != version {
            out.since = since;
        }
        true
    }
}

/// What changed in a step when it was evaluated.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct StepChange {
    /// Its rows or its error.
    pub rows: bool,
    /// Its annotations, even if its rows are the same.
    pub annotations: bool,
}

/// What the live runtime adds to the evaluation of a stage.
///
/// # Contract
/// 1. [`Stage::eval_round`] calls the hooks on its own thread, for each step that is due and
///    marked, in order of dependency: first `eval_leaf`, then `evaluated`, exactly once each.
/// 2. `eval_leaf` fills the output of its step only, and increases its version if rows changed.
///    Without that no reader is evaluated. *Checked:* `debug_assert!` that no step gets fewer rows.
/// 3. `evaluated` must not evaluate steps: those after this one are still to come.
pub trait StageHooks {
    /// Evaluates a step that has no operator, a leaf. Returns how many rows it read; `None`: the
    /// step has an operator.
    fn eval_leaf(&mut self, _stage: &mut Stage, _step: StepId, _t: TimeMs) -> Option<usize> {
        None
    }

    /// A step was evaluated.
    fn evaluated(&mut self, step: StepId, change: StepChange);
}

impl Stage {
    /// Evaluates at `t` the steps that are due and whose inputs have changed, in order of
    /// dependency. Returns how many rows leaves and groups read.
    pub fn eval_round(&mut self, due: &StepSet, t: TimeMs, hooks: &mut impl StageHooks) -> usize {
        let mut rows = 0;
        let mut from = 0;
        self.begin_round(t);
        // Steps that are dirty but not due stay marked. They are evaluated in the round of their
        // view.
        while let Some(step) = self.next_due(due, from) {
            let before = self.versions(step);
            let rows_before = self.output(step).labels.len();
            rows += match hooks.eval_leaf(self, step, t) {
                Some(rows) => rows,
                None if self.eval(step, t) => self.output(step).rows_looked_at,
                None => 0,
            };
            debug_assert!(
                self.output(step).labels.len() >= rows_before,
                "clause 2 of the contract of `StageHooks`: rows are not removed"
            );
            let after = self.versions(step);
            let change = StepChange { rows: after.0 != before.0, annotations: after.1 != before.1 };
            if change.rows {
                self.mark_readers_dirty(step);
            }
            hooks.evaluated(step, change);
            // Readers have greater numbers than their inputs, so one pass is enough.
            from = step + 1;
        }
        rows
    }

    /// Versions of a step's rows and of its annotations.
    fn versions(&self, step: StepId) -> (u64, u64) {
        let out = self.output(step);
        (out.version, out.annotations.version())
    }
}

/// Whether all rows that are listed as changed exist.
fn has_listed_rows(out: &StepOutput) -> bool {
    match &out.changed {
        ChangedRows::All => true,
        ChangedRows::Rows(rows) => rows.iter().all(|row| (*row as usize) < out.values.len()),
    }
}

/// Whether a step that was never evaluated has no rows, annotations or errors because its inputs
/// have none. Steps whose result may depend on scalars or texts alone are evaluated.
fn inputs_unchanged<'a>(step: &Step, output: impl Fn(&StepId) -> &'a StepOutput) -> bool {
    let is_empty = |input: &StepId| output(input).says_nothing();
    let fails = |input: &StepId| output(input).error.is_some();
    match &step.op {
        StepOp::Map(_)
        | StepOp::Negate
        | StepOp::VectorScalar { .. }
        | StepOp::PartialAggregate(..)
        | StepOp::DropNames => step.inputs.first().is_some_and(is_empty) && !step.inputs.iter().any(fails),
        StepOp::VectorMatch(..) | StepOp::SetOperator(..) => step.inputs.iter().all(is_empty),
        _ => false,
    }
}

/// The rows of a step; empty if there are none.
fn output_of(outputs: &[Option<Box<StepOutput>>], id: StepId) -> &StepOutput {
    static NONE: LazyLock<StepOutput> =
        LazyLock::new(|| StepOutput { sorted: true, ..StepOutput::default() });
    outputs[id].as_deref().unwrap_or_else(|| &NONE)
}

/// What changed in `input` for a reader that has seen version `seen`.
fn delta(input: &StepOutput, seen: u64, evaluated: bool) -> Option<&ChangedRows> {
    if !evaluated {
        return Some(&ChangedRows::All);
    }
    match input.version.wrapping_sub(seen) {
        0 => None,
        // An output keeps only its latest change. Whoever missed more gets everything.
        1 => Some(&input.changed),
        _ => Some(&ChangedRows::All),
    }
}

/// Stores the result of an evaluation. `false` after an error: the next evaluation gets all rows as
/// changed. `latest`: the rows of the change before. If this evaluation changed nothing they are
/// kept, because a reader may not have seen them.
fn finish_output(out: &mut StepOutput, result: Result<(), EvalError>, latest: ChangedRows) -> bool {
    match result {
        Ok(()) => {
            // Readers have failed with the error and know nothing of the values now.
            let recovered = out.error.take().is_some();
            if recovered {
                out.changed = ChangedRows::All;
            }
            // The version stays, so nobody is evaluated because of this. The older list must stay
            // with its version, for readers that have not seen it.
            if out.changed == ChangedRows::Rows(Vec::new()) {
                out.changed = latest;
            } else {
                out.version += 1;
            }
            true
        }
        Err(EvalError(error)) => {
            // The same error again is no change: readers have passed it on already.
            if out.error.as_ref() != Some(&error) {
                out.error = Some(error);
                out.version += 1;
            }
            out.changed = ChangedRows::All;
            false
        }
    }
}
