//! Operators: what the steps of a physical plan compute. Both runtimes, the one for queries and the
//! live one for views, use the same operators.
//!
//! The words of this folder:
//!
//! - A *step* is one operation of a physical plan with its inputs ([`crate::plan::physical`]).
//! - A *row* is one series of a step's output. It keeps its number while the operator exists.
//! - A *shard* is a fixed share of the series. Some steps run once per shard, the *local stage*;
//!   the others run once, in the *gather stage*, over the rows of all shards.
//! - A *dirty* group is one that must be computed again, because a member changed.
//! - A *kernel* is the function on numbers or samples that an operator calls
//!   ([`crate::functions`]).
//!
//! An operator separates the *structure* of its output (labels, groups, matches) from the *values*.
//! Structure is computed once for each new row. Values are columns of `f64`, indexed by row;
//! [`ABSENT`] means that a row has no sample. Native histograms are in a column of their own
//! ([`crate::types::histogram_column`]), and every operator has annotations as a second output
//! ([`crate::annotations::step`]). The live runtime evaluates one tick and says which rows changed;
//! the query runtime evaluates step after step of a range and says that all rows changed. An
//! operator may use or ignore the list of changed rows, but the result must be the same (tests
//! compare).
//!
//! An operator reports each row and each new label set to its [`evaluation_guard`], so that a query
//! ends at its limits. [`stage`] runs a set of steps in order. [`build`] creates the operator of a
//! step.

pub mod absent;
pub mod aggregate;
pub mod binary;
pub mod evaluation_guard;
mod group_index;
pub mod grouping;
mod histogram_aggregate;
pub mod histogram_functions;
pub mod info;
pub mod labelled_rows;
pub mod map;
pub mod matching;
pub mod metric_names;
pub mod scalar;
pub mod sets;
mod sorting;
pub mod stage;
pub mod step_set;
#[cfg(test)]
mod tests;
pub mod whole_group;

use crate::annotations::step::StepAnnotations;
use crate::heap_size::HeapSize;
use crate::plan::Dialect;
use crate::plan::physical::StepOp;
use crate::types::histogram_column::{HistogramColumn, Sample, SampleRef, identical};
use evaluation_guard::EvaluationGuard;
use metric_names::FlaggedLabels;
use std::collections::HashSet;
use std::sync::Arc;
use storage::model::value::{ABSENT, HISTOGRAM, is_absent, is_histogram};
use storage::model::{Labels, NativeHistogram, TimeMs};

/// The rows of one step at one time.
#[derive(Debug, Default)]
pub struct StepOutput {
    /// Labels by row. Rows are only added, never removed.
    pub labels: Vec<Labels>,
    /// By row: whether it loses its name in the end. May be shorter than `labels`, then the
    /// remaining rows do not. See [`metric_names`].
    pub drops_name: Vec<bool>,
    /// Shard by row; empty if there is only one shard.
    pub shards: Vec<u16>,
    /// Value by row.
    pub values: Vec<f64>,
    /// Native histograms, where the value is [`HISTOGRAM`]. In partial aggregates a row may have a
    /// number and a histogram.
    pub histograms: HistogramColumn,
    /// The compensations of these histograms (Kahan summation), in partial aggregates.
    pub histogram_compensations: HistogramColumn,
    /// Further columns of values, in partial aggregates.
    pub partial_columns: Vec<Vec<f64>>,
    /// Annotations.
    pub annotations: StepAnnotations,
    /// Whether rows are in label order; then they need not be sorted.
    pub sorted: bool,
    /// Why there is no result.
    pub error: Option<String>,
    /// Increases with every evaluation that changed something.
    pub version: u64,
    /// The rows that the latest change affected.
    pub changed: ChangedRows,
    /// From when on the latest change holds, if that is before the evaluation: the time of the
    /// earliest sample behind it, or of the earliest answer that expired.
    pub since: Option<TimeMs>,
    /// Number of group members that the latest evaluation read, in operators on groups.
    pub rows_looked_at: usize,
}

/// Which rows an evaluation changed.
#[derive(Debug, Default, Clone, PartialEq)]
pub enum ChangedRows {
    /// Possibly any row.
    #[default]
    All,
    /// Only these rows.
    Rows(Vec<u32>),
}

/// An operand, with what changed in it since its reader's last evaluation.
pub struct StepInput<'a> {
    /// The operand's rows.
    pub out: &'a StepOutput,
    /// `None`: nothing changed.
    pub delta: Option<&'a ChangedRows>,
}

pub(crate) use sorting::sort_paced;

/// Why an evaluation has no result; the texts are those of Prometheus. If a limit of a query was
/// reached, its guard has the error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvalError(pub String);

/// Computes one step.
///
/// # Contract
/// What the stage guarantees:
/// 1. Only [`stage::Stage`] calls an operator, on the thread that owns the stage, once per
///    evaluation. All inputs were evaluated at the same `t`, and come in the order of the step's
///    inputs.
/// 2. It is not called while an input has an error: the stage passes that error on. After an error
///    of an input or of its own, the next call has all rows of every input as changed.
/// 3. It is called only if it was never evaluated, an input has another version, or the step
///    follows the clock ([`crate::plan::physical::StepOp::follows_clock`]). A value that changes
///    with time alone without that becomes stale.
/// 4. [`StepInput::delta`] is a list of rows only if exactly one version was missed. An operator
///    may ignore it. The result must be the same, within the tolerance of its function. *Checked:*
///    the tests of the operators, `live_equals_scratch`.
///
/// What the operator guarantees:
///
/// 5. Rows are added, never removed or renumbered. A row without a value is `ABSENT`. Otherwise
///    readers, which keep row numbers, read another series. *Checked:* `debug_assert!` in the
///    stage.
/// 6. Every change of a value goes through `set`, `set_histogram` or `put`, and `out.changed` lists
///    the rows in the end. A row that is missing in the list keeps its old value in all readers;
///    one too many costs time only. *Checked:* `debug_assert!` in the stage that listed rows exist.
/// 7. It leaves `out.version` and `out.error` to the stage, and sets `out.sorted` only while the
///    rows are in the order of their labels.
/// 8. After the call the annotations are those of an evaluation from scratch.
/// 9. Two rows may have equal labels, but not both a value ([`DuplicateLabels::check`]); else the
///    evaluation fails.
/// 10. Floats are added in a canonical order: by shard, then by labels. Nothing is ever subtracted
///     from a sum. Otherwise the live result differs from the one from scratch.
/// 11. It does not block, read a clock or panic: a panic of a worker aborts the process. An
///     exception is the step that queries the store, within its time limit. `t` may go back when
///     the clock was set back.
/// 12. [`Operator::bytes`] is cheap, and counts what is kept beside `out`.
pub trait Operator: Send {
    /// Updates `out` for the inputs at time `t`, and sets `out.changed` to the changed rows (an
    /// empty list: none). After an error the next call gets all rows as changed.
    fn eval(
        &mut self,
        inputs: &[StepInput],
        t: TimeMs,
        out: &mut StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError>;

    /// Bytes allocated besides `out`. Operators with state per row implement it.
    fn bytes(&self) -> usize {
        0
    }
}

impl StepOutput {
    /// Whether there are no rows, annotations or errors.
    pub fn says_nothing(&self) -> bool {
        self.labels.is_empty() && self.error.is_none() && self.annotations.is_empty()
    }

    /// Adds a row without a value and returns its index.
    pub fn add_row(&mut self, labels: Labels) -> usize {
        // Equal labels are not sorted either: `sorted` means that there are no duplicates.
        if self.sorted && self.labels.last().is_some_and(|last| *last >= labels) {
            self.sorted = false;
        }
        self.labels.push(labels);
        self.values.push(ABSENT);
        for lane in &mut self.partial_columns {
            lane.push(ABSENT);
        }
        self.labels.len() - 1
    }

    /// Adds rows in the order of their labels to an output without rows.
    pub fn add_sorted_rows(&mut self, labels: &[Labels]) {
        self.labels.extend_from_slice(labels);
        self.values.resize(self.labels.len(), ABSENT);
    }

    /// Adds a row that may lose its name in the end.
    pub fn add_row_with_name_flag(&mut self, row: FlaggedLabels) -> usize {
        let FlaggedLabels { labels, drops_name } = row;
        let row = self.add_row(labels);
        if drops_name {
            self.mark_name_dropped(row);
        }
        row
    }

    /// The row loses its name in the end from now on.
    pub fn mark_name_dropped(&mut self, row: usize) {
        if self.drops_name.len() <= row {
            self.drops_name.resize(row + 1, false);
        }
        self.drops_name[row] = true;
    }

    /// Whether the row loses its name in the end.
    pub fn drops(&self, row: usize) -> bool {
        self.drops_name.get(row).copied().unwrap_or(false)
    }

    /// Sets a value, and adds the row to `touched` if it changed.
    #[inline]
    pub fn set(&mut self, row: usize, value: f64, touched: &mut Vec<u32>) {
        // By bits: `==` would not see a NaN that becomes another, and would call NaN changed each
        // time.
        if self.values[row].to_bits() != value.to_bits() {
            // The row may have had a histogram; the value decides which of both counts.
            if !self.histograms.is_empty() {
                self.histograms.set(row, None);
            }
            self.values[row] = value;
            touched.push(row as u32);
        }
    }

    /// Sets a native histogram, and adds the row to `touched` if it changed.
    pub fn set_histogram(&mut self, row: usize, histogram: Arc<NativeHistogram>, touched: &mut Vec<u32>) {
        let same = is_histogram(self.values[row])
            && self.histograms.get(row).is_some_and(|there| identical(there, &histogram));
        if !same {
            self.values[row] = HISTOGRAM;
            self.histograms.set(row, Some(histogram));
            touched.push(row as u32);
        }
    }

    /// Sets a sample of either kind.
    pub fn put(&mut self, row: usize, sample: Sample, touched: &mut Vec<u32>) {
        match sample {
            Sample::Float(value) => self.set(row, value, touched),
            Sample::Histogram(histogram) => self.set_histogram(row, histogram, touched),
        }
    }

    /// The sample of a row.
    #[inline]
    pub fn cell(&self, row: usize) -> SampleRef<'_> {
        self.histograms.cell(row, self.values[row])
    }

    /// The rows that have a value.
    pub fn rows(&self) -> Vec<(Labels, Sample)> {
        self.present().filter_map(|row| Some((self.labels[row].clone(), self.cell(row).sample()?))).collect()
    }

    /// Indices of the rows that have a value.
    pub fn present(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.values.len()).filter(|row| !is_absent(self.values[*row]))
    }

    /// All rows by labels, those with equal labels by shard.
    pub fn rows_by_labels(&self, eval_guard: &mut EvaluationGuard) -> Result<Vec<u32>, EvalError> {
        let rows: Vec<u32> = (0..self.labels.len() as u32).collect();
        if self.sorted && self.shards.is_empty() {
            return Ok(rows);
        }
        let shard = |r: u32| self.shards.get(r as usize).copied().unwrap_or(0);
        let order = |a: &u32, b: &u32| {
            // By labels first: a port has the rows of one shard after those of another, and members
            // of a group have the same labels only if they come from several shards.
            let by_labels = self.labels[*a as usize].cmp(&self.labels[*b as usize]);
            by_labels.then_with(|| shard(*a).cmp(&shard(*b)))
        };
        sort_paced(rows, order, eval_guard)
    }
}

impl StepInput<'_> {
    /// The rows that may have changed.
    pub fn rows(&self) -> ChangedRowIter<'_> {
        match self.delta {
            Some(ChangedRows::Rows(rows)) => ChangedRowIter::Some(rows.iter()),
            Some(ChangedRows::All) => ChangedRowIter::All(0..self.out.values.len()),
            None => ChangedRowIter::All(0..0),
        }
    }
}

/// An iterator over changed rows.
pub enum ChangedRowIter<'a> {
    /// A range of rows.
    All(std::ops::Range<usize>),
    /// A list of rows.
    Some(std::slice::Iter<'a, u32>),
}

impl Iterator for ChangedRowIter<'_> {
    type Item = usize;
    #[inline]
    fn next(&mut self) -> Option<usize> {
        match self {
            ChangedRowIter::All(range) => range.next(),
            ChangedRowIter::Some(rows) => rows.next().map(|row| *row as usize),
        }
    }
}

impl HeapSize for StepOutput {
    fn heap(&self) -> usize {
        let changed = if let ChangedRows::Rows(rows) = &self.changed { rows.heap() } else { 0 };
        let rows = self.labels.heap() + self.drops_name.heap() + self.shards.heap() + self.values.heap();
        let sides =
            self.histograms.heap() + self.histogram_compensations.heap() + self.partial_columns.heap();
        rows + sides + self.annotations.heap() + self.error.heap() + changed
    }
}

/// The error for two samples with the same labels at one time.
pub fn same_labelset() -> EvalError {
    EvalError("vector cannot contain metrics with the same labelset".to_owned())
}

/// Finds rows with the same labels, which must not have values at the same time.
#[derive(Debug, Default)]
pub struct DuplicateLabels {
    seen: usize,
    first: std::collections::HashMap<Labels, u32>,
    pairs: Vec<(u32, u32)>,
    /// Rows of pairs that had a value at any evaluation, for [`DuplicateLabels::check_ever`].
    had_value: HashSet<u32>,
}

impl HeapSize for DuplicateLabels {
    fn heap(&self) -> usize {
        self.first.heap() + self.pairs.heap() + self.had_value.heap()
    }
}

impl DuplicateLabels {
    /// Adds the rows that `out` got since the last call.
    pub fn add_rows(&mut self, out: &StepOutput, eval_guard: &mut EvaluationGuard) -> Result<(), EvalError> {
        for row in self.seen..out.labels.len() {
            eval_guard.row()?;
            match self.first.entry(out.labels[row].clone()) {
                std::collections::hash_map::Entry::Occupied(first) => {
                    self.pairs.push((*first.get(), row as u32))
                }
                std::collections::hash_map::Entry::Vacant(place) => drop(place.insert(row as u32)),
            }
            self.seen = row + 1;
        }
        Ok(())
    }

    /// Number of rows whose labels an earlier row has.
    pub fn pairs(&self) -> usize {
        self.pairs.len()
    }

    /// Whether all rows have different labels.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Fails if two rows with the same labels have a value.
    pub fn check(&self, out: &StepOutput, eval_guard: &mut EvaluationGuard) -> Result<(), EvalError> {
        self.check_single(|row| is_present(out, row), eval_guard)
    }

    /// Fails if two rows with the same labels have had values, even at different evaluations:
    /// Prometheus rejects a range query of window functions then, unlike one of functions per
    /// sample.
    pub fn check_ever(
        &mut self,
        out: &StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        let rows = self.pairs.iter().flat_map(|(first, other)| [*first, *other]);
        // Only rows of pairs are remembered. All other rows cannot collide.
        self.had_value.extend(rows.filter(|row| is_present(out, *row)));
        self.check_single(|row| self.had_value.contains(&row), eval_guard)
    }

    /// The rows whose labels another row has; a row may occur several times.
    pub fn rows(&self) -> impl Iterator<Item = usize> + '_ {
        self.pairs.iter().flat_map(|(first, other)| [*first as usize, *other as usize])
    }

    /// The rows with a float for which another row with the same labels has a histogram. Fails if
    /// two rows with the same labels have values of the same kind.
    pub fn floats_beside_histograms(
        &self,
        out: &StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<HashSet<usize>, EvalError> {
        let histogram = |row: u32| is_histogram(out.values[row as usize]);
        // Each kind by itself: a float and a histogram of the same labels are one series.
        self.check_single(histogram, eval_guard)?;
        self.check_single(|row| is_present(out, row) && !histogram(row), eval_guard)?;
        if out.histograms.is_empty() {
            return Ok(HashSet::new());
        }
        // By the first row with the labels.
        let mut holds_histogram = HashSet::new();
        for (first, other) in &self.pairs {
            eval_guard.row()?;
            if histogram(*first) || histogram(*other) {
                holds_histogram.insert(*first);
            }
        }
        let meets = |(first, _): &&(u32, u32)| holds_histogram.contains(first);
        let rows = self.pairs.iter().filter(meets).flat_map(|(first, other)| [*first, *other]);
        Ok(rows.filter(|row| is_present(out, *row) && !histogram(*row)).map(|row| row as usize).collect())
    }

    fn check_single(
        &self,
        present: impl Fn(u32) -> bool,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        // Each pair has the first row of its labels, so a third row is compared with the first
        // only. Counting the values by first row also finds the second and the third.
        let mut owner: std::collections::HashMap<u32, u32> = std::collections::HashMap::new();
        for (first, other) in &self.pairs {
            eval_guard.row()?;
            let count = owner.entry(*first).or_insert_with(|| u32::from(present(*first)));
            *count += u32::from(present(*other));
            if *count > 1 {
                return Err(same_labelset());
            }
        }
        Ok(())
    }
}

fn is_present(out: &StepOutput, row: u32) -> bool {
    !is_absent(out.values[row as usize])
}

/// The operator of a step; `None` for leaves, ports, subqueries, given scalars and store queries,
/// which are filled by their runtime.
pub fn build(op: &StepOp, dialect: Dialect) -> Option<Box<dyn Operator>> {
    Some(match op {
        StepOp::Leaf(..)
        | StepOp::Port(_)
        | StepOp::Subquery(..)
        | StepOp::ScalarParam(_)
        | StepOp::StoreQuery(_) => return None,
        StepOp::Number(n) => Box::new(scalar::Constant(n.0)),
        StepOp::TimeScalar(function, shift) => Box::new(scalar::TimeScalar::new(*function, *shift)),
        StepOp::TimeVector(function, shift) => Box::new(scalar::TimeVector::new(*function, *shift)),
        StepOp::ScalarBinary(op) => Box::new(scalar::ScalarBinary(*op)),
        StepOp::ScalarFunction(function) => Box::new(scalar::ScalarFunction::new(*function)),
        StepOp::ToScalar => Box::new(scalar::ToScalar),
        StepOp::ToVector => Box::new(scalar::ToVector),
        StepOp::Map(function) => Box::new(map::Map::new(*function, dialect)),
        StepOp::Negate => Box::new(map::Map::negate(dialect)),
        StepOp::Relabel(function, texts) => Box::new(map::Relabel::new(*function, texts.clone())),
        StepOp::Sort(_) => Box::new(map::Map::floats(dialect)),
        StepOp::SortByLabel(..) => Box::new(map::Map::identity(dialect)),
        StepOp::VectorScalar { op, return_bool, scalar_left } => {
            Box::new(binary::VectorScalar::new(*op, *return_bool, *scalar_left, dialect))
        }
        StepOp::VectorMatch(op, return_bool, matching) => {
            Box::new(matching::VectorMatch::new(*op, *return_bool, matching.clone(), dialect))
        }
        StepOp::SetOperator(op, matching) => Box::new(sets::SetOperator::new(*op, matching)),
        StepOp::PartialAggregate(op, grouping) => {
            Box::new(aggregate::PartialAggregate::new(*op, grouping.clone()))
        }
        StepOp::MergeAggregate(op, metric) => {
            Box::new(aggregate::MergeAggregate::new(*op, metric.shown(dialect)))
        }
        StepOp::WholeGroup(op, grouping, text) => {
            Box::new(whole_group::WholeGroup::new(*op, grouping.clone(), text.clone()))
        }
        StepOp::Absent(labels) => Box::new(absent::Absent::new(labels.clone())),
        StepOp::Histogram(ask) => Box::new(histogram_functions::HistogramQuery::new(ask.clone(), dialect)),
        StepOp::DropNames => Box::new(metric_names::DropNames::default()),
        StepOp::Info(labels) => Box::new(info::Info::new(labels.clone())),
    })
}
