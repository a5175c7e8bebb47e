//! Operators with one output row for each input row (a row is one series of a step): functions per
//! sample such as `abs`, unary minus, `label_replace` and `label_join`.

use super::evaluation_guard::EvaluationGuard;
use super::metric_names::{FlaggedLabels, computed};
use super::{
    ChangedRowIter, ChangedRows, DuplicateLabels, EvalError, Operator, StepInput, StepOutput,
    scalar::scalar_of,
};
use crate::functions::{self, Kernel, OperatorFunction};
use crate::heap_size::HeapSize;
use crate::plan::{Dialect, FunctionRef};
use crate::types::histogram_column::{Sample, SampleRef};
use std::sync::Arc;
use storage::model::labels::METRIC_NAME;
use storage::model::value::{ABSENT, is_absent};
use storage::model::{Labels, NativeHistogram, TimeMs};

/// What is computed from a sample.
#[derive(Copy, Clone)]
enum SampleFunction {
    /// A kernel for floats with scalar parameters; histograms are dropped.
    Floats(fn(f64, &[f64], TimeMs) -> f64),
    /// A kernel for floats without parameters; histograms are dropped.
    Plain(fn(f64) -> f64),
    /// A kernel that turns histograms into floats; floats are dropped.
    Histograms(fn(&NativeHistogram) -> f64),
    /// The evaluation time, for any sample.
    Time,
    /// The negative value.
    Negate,
    /// Floats; histograms are dropped.
    OnlyFloats,
    /// The sample itself.
    All,
    /// Nothing: all samples are dropped.
    Nothing,
}

/// A function per sample, with scalar parameters.
pub struct Map {
    work: SampleFunction,
    keeps_name: bool,
    dialect: Dialect,
    params: Vec<f64>,
    duplicates: DuplicateLabels,
}

impl Map {
    /// The operator of a function that is computed per sample, or of `timestamp` and
    /// `start_timestamp` over an expression.
    pub fn new(function: FunctionRef, dialect: Dialect) -> Map {
        let work = match function.0.kernel {
            Kernel::Map(kernel) => SampleFunction::Floats(kernel),
            Kernel::MapOrClock(kernel) => SampleFunction::Plain(kernel),
            Kernel::Histogram(kernel) => SampleFunction::Histograms(kernel),
            Kernel::Operator(OperatorFunction::Timestamp) => SampleFunction::Time,
            // `start_timestamp` of an expression: only selectors know start timestamps.
            _ => SampleFunction::Nothing,
        };
        Map::with_function(work, function.0.keeps_name, dialect)
    }

    fn with_function(work: SampleFunction, keeps_name: bool, dialect: Dialect) -> Map {
        Map { work, keeps_name, dialect, params: Vec::new(), duplicates: DuplicateLabels::default() }
    }

    /// Unary minus.
    pub fn negate(dialect: Dialect) -> Map {
        Map::with_function(SampleFunction::Negate, false, dialect)
    }

    /// Returns all samples: for sorting by label, which does not change values.
    pub fn identity(dialect: Dialect) -> Map {
        Map::with_function(SampleFunction::All, true, dialect)
    }

    /// Returns the floats: for sorting by value, as histograms have no order.
    pub fn floats(dialect: Dialect) -> Map {
        Map::with_function(SampleFunction::OnlyFloats, true, dialect)
    }

    /// The result for a float; ABSENT if there is none.
    #[inline]
    fn float(&self, v: f64, t: TimeMs) -> f64 {
        match self.work {
            _ if is_absent(v) => ABSENT,
            SampleFunction::Floats(kernel) => kernel(v, &self.params, t),
            SampleFunction::Plain(kernel) => kernel(v),
            SampleFunction::Negate => -v,
            SampleFunction::OnlyFloats | SampleFunction::All => v,
            SampleFunction::Time => t as f64 / 1000.0,
            SampleFunction::Histograms(_) | SampleFunction::Nothing => ABSENT,
        }
    }

    fn histogram(&self, histogram: &Arc<NativeHistogram>, t: TimeMs) -> Sample {
        match self.work {
            SampleFunction::Histograms(kernel) => Sample::Float(kernel(histogram)),
            SampleFunction::Time => Sample::Float(t as f64 / 1000.0),
            SampleFunction::All => Sample::Histogram(histogram.clone()),
            SampleFunction::Negate => {
                let mut negated = NativeHistogram::clone(histogram);
                negated.negate();
                Sample::Histogram(Arc::new(negated))
            }
            SampleFunction::Floats(_)
            | SampleFunction::Plain(_)
            | SampleFunction::OnlyFloats
            | SampleFunction::Nothing => Sample::Float(ABSENT),
        }
    }

    /// Computes one row.
    #[inline]
    fn row(&self, row: usize, input: &StepOutput, t: TimeMs, out: &mut StepOutput, touched: &mut Vec<u32>) {
        match input.cell(row) {
            SampleRef::Histogram(histogram) => out.put(row, self.histogram(histogram, t), touched),
            SampleRef::Float(v) => out.set(row, self.float(v, t), touched),
            SampleRef::Absent => out.set(row, ABSENT, touched),
        }
    }
}

impl Operator for Map {
    fn eval(
        &mut self,
        inputs: &[StepInput],
        t: TimeMs,
        out: &mut StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        let keep = self.keeps_name;
        let dialect = self.dialect;
        // As in Prometheus, these functions drop only the name, not type and unit.
        let name_only = matches!(self.work, SampleFunction::Histograms(_)) && !dialect.delayed_names;
        let named = |labels: &Labels, drops| {
            if name_only {
                FlaggedLabels::new(labels.filter(|name| name != METRIC_NAME), false)
            } else {
                computed(dialect, labels, drops, keep)
            }
        };
        add_rows(&inputs[0], out, eval_guard, |labels, drops| Ok(named(labels, drops)))?;
        let params_changed = inputs[1..].iter().any(|p| p.delta.is_some());
        self.params.clear();
        self.params.extend(inputs[1..].iter().map(scalar_of));
        let mut touched = Vec::new();
        let input = inputs[0].out;
        // `timestamp` of an expression changes in all rows with time, even if the values stay.
        let all = params_changed || matches!(self.work, SampleFunction::Time) || inputs[0].delta.is_none();
        if !input.histograms.is_empty() {
            let rows = if all { ChangedRowIter::All(0..out.values.len()) } else { inputs[0].rows() };
            for row in rows {
                eval_guard.row()?;
                self.row(row, input, t, out, &mut touched);
            }
        } else if all {
            for row in 0..out.values.len() {
                eval_guard.row()?;
                out.set(row, self.float(input.values[row], t), &mut touched);
            }
        } else {
            for row in inputs[0].rows() {
                eval_guard.row()?;
                out.set(row, self.float(input.values[row], t), &mut touched);
            }
        }
        finish(out, touched, &mut self.duplicates, keep || dialect.delayed_names, eval_guard)
    }

    fn bytes(&self) -> usize {
        self.params.heap() + self.duplicates.heap()
    }
}

/// Adds a row to `out` for each new row of `input`. `relabel` gets its labels and whether it loses
/// its name in the end.
pub(super) fn add_rows(
    input: &StepInput,
    out: &mut StepOutput,
    eval_guard: &mut EvaluationGuard,
    mut relabel: impl FnMut(&Labels, bool) -> Result<FlaggedLabels, EvalError>,
) -> Result<(), EvalError> {
    if out.labels.is_empty() {
        out.sorted = input.out.sorted;
    }
    for row in out.labels.len()..input.out.labels.len() {
        eval_guard.row()?;
        let named = relabel(&input.out.labels[row], input.out.drops(row))?;
        eval_guard.relabelled(&named.labels, &input.out.labels[row])?;
        out.add_row_with_name_flag(named);
    }
    Ok(())
}

/// Stores which rows changed. If names were dropped, checks that no two rows have the same labels.
pub(super) fn finish(
    out: &mut StepOutput,
    touched: Vec<u32>,
    duplicates: &mut DuplicateLabels,
    keeps_labels: bool,
    eval_guard: &mut EvaluationGuard,
) -> Result<(), EvalError> {
    out.changed = ChangedRows::Rows(touched);
    // Rows in strict label order have no duplicates.
    if keeps_labels || out.sorted {
        return Ok(());
    }
    duplicates.add_rows(out, eval_guard)?;
    duplicates.check(out, eval_guard)
}

/// `label_replace` and `label_join`.
pub struct Relabel {
    function: FunctionRef,
    texts: Vec<String>,
    duplicates: DuplicateLabels,
}

impl Relabel {
    /// The operator of a function of kind `Relabel`.
    pub fn new(function: FunctionRef, texts: Vec<String>) -> Relabel {
        Relabel { function, texts, duplicates: DuplicateLabels::default() }
    }
}

impl Operator for Relabel {
    fn eval(
        &mut self,
        inputs: &[StepInput],
        _: TimeMs,
        out: &mut StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        let Kernel::Relabel(kind) = self.function.0.kernel else {
            return Err(EvalError("not a function of labels".to_owned()));
        };
        if out.labels.len() < inputs[0].out.labels.len() || out.labels.is_empty() {
            let failed = |e: functions::labels::LabelError| EvalError(e.to_string());
            let relabel = functions::labels::CompiledLabelFunction::new(kind, &self.texts).map_err(failed)?;
            // A name that the function sets is not dropped in the end.
            let named = self.texts.first().is_some_and(|label| label == METRIC_NAME);
            add_rows(&inputs[0], out, eval_guard, |labels, drops| {
                let stays = named && drops && relabel.sets(labels);
                Ok(FlaggedLabels::new(relabel.apply(labels).map_err(failed)?, drops && !stays))
            })?;
        }
        out.sorted = false;
        let mut touched = Vec::new();
        for row in inputs[0].rows() {
            eval_guard.row()?;
            let sample = inputs[0].out.cell(row).sample();
            out.put(row, sample.unwrap_or(Sample::Float(ABSENT)), &mut touched);
        }
        finish(out, touched, &mut self.duplicates, false, eval_guard)
    }

    fn bytes(&self) -> usize {
        self.duplicates.heap()
    }
}
