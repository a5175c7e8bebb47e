//! Subqueries: the answers of a plan at steps of its own, which are the samples of window
//! functions.
//!
//! Before a query runs, each of its subqueries is run as a query over history ([`super::Querier`]).
//! An operator of the gather stage then slides a window over the rows ([`SlidingWindow`]). In
//! views, steps that query the store do this (`live/store_query.rs`) and cache the rows
//! ([`super::subquery_cache`]).

use super::QueryError;
use super::float_windows::{FloatSlices, WindowGrid, WindowScratch};
use super::guard::QueryGuard;
use super::query_run::TimeGrid;
use super::subquery_rows::{SubqueryRow, SubqueryRows};
use super::value_block::ValueBlock;
use crate::annotations::{AnnotationTarget, StepAnnotation};
use crate::functions::findings::{Findings, non_counter_annotation};
use crate::functions::{Kernel, Window};
use crate::limits::{ROW_SAMPLES, SLIDING_VALUES};
use crate::operators::evaluation_guard::EvaluationGuard;
use crate::operators::metric_names::computed;
use crate::operators::scalar::scalar_of;
use crate::operators::{ChangedRows, DuplicateLabels, EvalError, Operator, StepInput, StepOutput};
use crate::plan::physical::{Subquery, SubqueryFunction};
use crate::plan::{AtTime, Dialect, Plan, PlanNode};
use crate::types::histogram_column::Sample;
use std::sync::Arc;
use storage::model::TimeMs;
use storage::model::labels::describes_metric;
use storage::model::value::{ABSENT, is_absent};

impl Subquery {
    /// The right edge of the window at evaluation time `t`, in a query over `start..=end`.
    fn end(&self, t: TimeMs, start: TimeMs, end: TimeMs) -> TimeMs {
        pinned(self.at, start, end).unwrap_or(t) - self.offset
    }

    /// The right edges of the windows of `outer`.
    fn ends(&self, outer: TimeGrid) -> Vec<TimeMs> {
        (0..outer.len()).map(|i| self.end(outer.time(i), outer.start, outer.end)).collect()
    }

    /// The multiples of the subquery's step that are in any window of `outer`.
    pub(super) fn grid(&self, outer: TimeGrid, default_step: i64) -> TimeGrid {
        let step = self.step.unwrap_or(default_step).max(1);
        let edge = |t| self.end(t, outer.start, outer.end);
        // The last step, which may be before `outer.end`.
        let last = edge(outer.time(outer.len().saturating_sub(1)));
        // Windows are open to the left.
        let before = edge(outer.start).saturating_sub(self.range);
        // Multiples of the step since the epoch and not since the window's begin: so two
        // evaluations share their steps, and the cache can reuse them.
        let start = (before.div_euclid(step) + 1) * step;
        TimeGrid { start, end: last, step }
    }
}

fn pinned(at: Option<AtTime>, start: TimeMs, end: TimeMs) -> Option<TimeMs> {
    at.map(|at| match at {
        AtTime::Time(t) => t,
        AtTime::Start => start,
        AtTime::End => end,
    })
}

/// Counts the samples in the windows of `outer` over these rows.
pub(super) fn count_windows(
    subquery: &Subquery,
    outer: TimeGrid,
    rows: &[SubqueryRow],
    guard: &QueryGuard,
) -> Result<(), QueryError> {
    let ends = subquery.ends(outer);
    for row in rows {
        guard.check()?;
        let mut both = Vec::new();
        // A row with both kinds has two lists of times, but windows are counted over all of them.
        if !row.histograms.is_empty() {
            both.extend(row.ts.iter().copied().chain(row.histograms.iter().map(|h| h.0)));
            both.sort_unstable();
        }
        let times = if row.histograms.is_empty() { &row.ts } else { &both };
        let floats = FloatSlices { ts: times, vs: &[] };
        let seen = floats.windows(&ends, subquery.range, |i, lo, hi, fresh| {
            guard.count_step(outer.time(i), hi - lo, fresh);
        });
        guard.count_samples(seen)?;
    }
    Ok(())
}

/// The plan with `@ start()` and `@ end()` replaced by the times of the outermost query.
pub(super) fn fix_times(plan: &Plan, start: TimeMs, end: TimeMs) -> Plan {
    // Within a subquery, `start()` is still the start of the outermost query.
    let op = plan.op.map_at(|at| pinned(at, start, end).map(AtTime::Time));
    Arc::new(PlanNode { op: op.map_inputs(&mut |input| fix_times(input, start, end)), span: plan.span })
}

/// Evaluates a window function over the rows of a subquery.
pub(super) struct SlidingWindow {
    subquery: Subquery,
    windowed: SubqueryFunction,
    outer: TimeGrid,
    rows: SubqueryRows,
    /// By row: the annotation that is added once a function for counters returns a float for it.
    non_counter_annotations: Vec<Option<StepAnnotation>>,
    /// The values of rows that have only floats, by step of `outer`, unless they depend on
    /// parameters.
    values: Option<ValueBlock>,
    /// Present if rows may get the same labels.
    duplicates: Option<DuplicateLabels>,
    dialect: Dialect,
}

/// The values of the rows that have only floats, over all of `outer`; `None` if they depend on
/// parameters, or if they are too many to hold. Then they are computed step by step.
fn slide(
    subquery: &Subquery,
    windowed: SubqueryFunction,
    outer: TimeGrid,
    rows: &[SubqueryRow],
    eval_guard: &mut EvaluationGuard,
) -> Result<Option<ValueBlock>, EvalError> {
    let kernel = match windowed {
        SubqueryFunction::Present => None,
        SubqueryFunction::Call(function) => match function.0.kernel {
            Kernel::Window(kernel) if function.0.args.len() == 1 => Some(kernel),
            _ => return Ok(None),
        },
    };
    let values = rows.len().saturating_mul(outer.len());
    // Step by step needs no block. It is slower, but a query over long ranges must not hold all
    // values at once.
    if values > SLIDING_VALUES {
        return Ok(None);
    }
    eval_guard.bytes(values * size_of::<f64>())?;
    let times: Vec<TimeMs> = (0..outer.len()).map(|i| outer.time(i)).collect();
    let ends = subquery.ends(outer);
    let places = WindowGrid { times: &times, ends: &ends, range: subquery.range, params: &[] };
    let mut block = ValueBlock::default();
    let mut work = WindowScratch::default();
    block.reset(rows.len(), times.len());
    // Rows with histograms are evaluated step by step: their values do not fit into a block of
    // floats.
    for (number, row) in rows.iter().enumerate().filter(|(_, row)| row.histograms.is_empty()) {
        eval_guard.rows(1 + outer.len() / ROW_SAMPLES)?;
        let floats = FloatSlices { ts: &row.ts, vs: &row.vs };
        let out = block.row_mut(number);
        let _counted = match kernel {
            Some(kernel) => floats.evaluate(kernel, places, &mut work, out, eval_guard)?,
            None => floats.windows(&ends, subquery.range, |i, _, _, _| out[i] = 1.0),
        };
    }
    Ok(Some(block))
}

fn is_float(sample: &Sample) -> bool {
    matches!(sample, Sample::Float(v) if !is_absent(*v))
}

fn keeps_name(windowed: SubqueryFunction) -> bool {
    match windowed {
        SubqueryFunction::Present => true,
        SubqueryFunction::Call(function) => function.0.keeps_name,
    }
}

/// Whether rows with different labels may have the same labels without their names.
fn may_be_duplicates(windowed: SubqueryFunction, rows: &[SubqueryRow]) -> bool {
    fn metric(row: &SubqueryRow) -> impl Iterator<Item = (&str, &str)> {
        row.labels.iter().filter(|(name, _)| describes_metric(name))
    }
    // If all rows have the same name, they differ in other labels and still do without it.
    !keeps_name(windowed) && rows.windows(2).any(|pair| !metric(&pair[0]).eq(metric(&pair[1])))
}

fn expects_counter(windowed: SubqueryFunction) -> bool {
    let SubqueryFunction::Call(function) = windowed else { return false };
    matches!(function.0.kernel, Kernel::Window(kernel) if kernel.expects_counter)
}

impl SlidingWindow {
    /// An operator over these rows.
    pub(super) fn new(
        subquery: Subquery,
        windowed: SubqueryFunction,
        outer: TimeGrid,
        rows: SubqueryRows,
        dialect: Dialect,
        guard: &QueryGuard,
    ) -> Result<SlidingWindow, QueryError> {
        let values = guard.paced(|eval_guard| slide(&subquery, windowed, outer, &rows, eval_guard))?;
        let non_counter_annotation = |row: &SubqueryRow| {
            non_counter_annotation(&row.labels, dialect.type_and_unit_labels, AnnotationTarget::Operand(0))
        };
        let non_counter_annotations = if expects_counter(windowed) {
            rows.iter().map(non_counter_annotation).collect()
        } else {
            Vec::new()
        };
        let duplicates = may_be_duplicates(windowed, &rows).then(DuplicateLabels::default);
        Ok(SlidingWindow {
            subquery,
            windowed,
            outer,
            rows,
            non_counter_annotations,
            values,
            dialect,
            duplicates,
        })
    }

    /// The value of a row, and its annotations.
    fn value(
        &self,
        row: &SubqueryRow,
        t: TimeMs,
        args: &[f64],
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(Sample, Vec<StepAnnotation>), EvalError> {
        let end = self.subquery.end(t, self.outer.start, self.outer.end);
        let start = end - self.subquery.range;
        let slices = row.slices().slice(start, end);
        eval_guard.samples(slices.len())?;
        let function = match self.windowed {
            _ if slices.is_empty() => return Ok((Sample::Float(ABSENT), Vec::new())),
            SubqueryFunction::Present => return Ok((Sample::Float(1.0), Vec::new())),
            SubqueryFunction::Call(function) => function.0,
        };
        let Kernel::Window(kernel) = function.kernel else { return Ok((Sample::Float(ABSENT), Vec::new())) };
        // After the check for samples: Prometheus rejects a parameter only where there is something
        // to compute.
        if let Some(check) = function.check {
            check(args).map_err(|error| EvalError(error.to_string()))?;
        }
        let window = slices.window(Window { start, end, t, args, ..Window::default() });
        let mut findings = Findings::default();
        let sample = kernel.value(&window, &mut findings);
        let mut annotations = Vec::new();
        if !findings.is_empty() {
            annotations = findings.annotations(row.labels.name(), AnnotationTarget::Operand(0));
        }
        if is_float(&sample) {
            annotations.extend(function.annotate_params.and_then(|annotate_params| annotate_params(args)));
        }
        Ok((sample, annotations))
    }
}

impl Operator for SlidingWindow {
    fn eval(
        &mut self,
        inputs: &[StepInput],
        t: TimeMs,
        out: &mut StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        let keeps = keeps_name(self.windowed);
        for row in &self.rows[out.labels.len()..] {
            eval_guard.row()?;
            let named = computed(self.dialect, &row.labels, row.drops, keeps);
            eval_guard.relabelled(&named.labels, &row.labels)?;
            out.add_row_with_name_flag(named);
        }
        let args: Vec<f64> = inputs.iter().map(scalar_of).collect();
        let mut touched = Vec::new();
        let step = ((t - self.outer.start) / self.outer.step) as usize;
        for number in 0..self.rows.len() {
            eval_guard.row()?;
            let row = &self.rows[number];
            let (sample, annotations) = match &self.values {
                Some(values) if row.histograms.is_empty() => {
                    (Sample::Float(values.row(number)[step]), Vec::new())
                }
                _ => self.value(row, t, &args, eval_guard)?,
            };
            if let Some(non_counter) =
                self.non_counter_annotations.get_mut(number).filter(|_| is_float(&sample))
            {
                // Added once, and kept for the rest of the query.
                if let Some(annotation) = non_counter.take() {
                    out.annotations.add(annotation);
                }
            }
            out.put(number, sample, &mut touched);
            out.annotations.set_row(number, annotations);
        }
        out.changed = ChangedRows::Rows(touched);
        let Some(duplicates) = &mut self.duplicates else { return Ok(()) };
        duplicates.add_rows(out, eval_guard)?;
        // Prometheus compares labels over all steps of a range query, not at each step.
        duplicates.check_ever(out, eval_guard)
    }
}
