//! The leaves of a query, which are its selectors and window functions: evaluates them over the
//! series of one shard.
//!
//! A leaf decodes each of its series once per block of steps (some consecutive evaluation times),
//! and writes the values to a [`ValueBlock`]. Floats in plain windows are handled by
//! [`super::float_windows`], everything else by [`super::mixed_windows`].

use super::float_windows::{FloatSlices, WindowGrid, WindowScratch};
use super::guard::{QueryGuard, SampleUsage};
use super::query_run::TimeGrid;
use super::remote_stores::HistorySource;
use super::value_block::ValueBlock;
use super::{QueryError, QueryOptions};
use crate::annotations::{AnnotationSet, StepOrigin};
use crate::functions::Kernel;
use crate::functions::findings::Findings;
use crate::functions::series_slices::drop_stale;
use crate::functions::window::TimedHistogram;
use crate::operators::evaluation_guard::EvaluationGuard;
use crate::operators::metric_names::leaf_labels;
use crate::operators::stage::Stage;
use crate::operators::{DuplicateLabels, EvalError, StepOutput};
use crate::plan::Dialect;
use crate::plan::physical::{Leaf, SampleSource, StepId};
use crate::types::histogram_column::HistogramColumn;
use storage::model::TimeMs;
use storage::store::Selection;

pub(super) struct LeafEvaluator {
    /// The number of the step.
    pub(super) id: StepId,
    /// Which samples it reads.
    pub(super) source: SampleSource,
    /// What it computes from them.
    pub(super) leaf: Leaf,
    /// The steps whose values are the scalar parameters.
    params: Vec<StepId>,
    /// The series of the shard.
    pub(super) selection: Selection,
    /// The values of the current block of steps.
    pub(super) block: ValueBlock,
    /// The histograms of the current block, by step.
    pub(super) histograms: Vec<HistogramColumn>,
    /// Whether start timestamps matter.
    pub(super) reads_starts: bool,
    /// Whether the label `__type__`, not the end of the name, says what is a counter.
    pub(super) typed: bool,
    /// The metric of the latest annotation that it is not a counter.
    pub(super) last_non_counter: Option<String>,
    /// Finds rows with equal labels.
    pub(super) duplicates: DuplicateLabels,
    /// The bytes counted for the histograms of the current block.
    pub(super) histogram_bytes: usize,
}

/// The input for a block of a leaf.
pub(super) struct LeafBlockInput<'a> {
    /// Evaluation times.
    pub times: &'a [TimeMs],
    /// Right edges of the windows.
    pub ends: &'a [TimeMs],
    /// Scalar parameters by step; empty if there are none.
    pub params: &'a [Vec<f64>],
    /// Only samples in these times are read, both included.
    pub span: (TimeMs, TimeMs),
    /// How far back an instant selector looks, in ms.
    pub lookback: i64,
    /// The query's limits.
    pub guard: &'a QueryGuard,
}

#[derive(Default)]
pub(super) struct LeafScratch {
    pub(super) ts: Vec<TimeMs>,
    pub(super) vs: Vec<f64>,
    pub(super) histograms: Vec<TimedHistogram>,
    pub(super) starts: Vec<(TimeMs, TimeMs)>,
    work: WindowScratch,
}

/// The first and the last time whose samples a leaf reads, over the whole grid.
pub(super) fn reach(
    source: &SampleSource,
    leaf: &Leaf,
    grid: TimeGrid,
    options: &QueryOptions,
) -> (TimeMs, TimeMs) {
    let (back, ahead) = source.reach(leaf, options.lookback);
    let from = source.time(grid.start, grid.start, grid.end) - back;
    let to = source.time(grid.end, grid.start, grid.end) + ahead;
    (from + i64::from(!source.counts_only), to)
}

impl LeafEvaluator {
    #[allow(clippy::too_many_arguments, reason = "a constructor of plain data")]
    pub(super) fn new(
        history: &HistorySource,
        shard: u16,
        id: StepId,
        source: &SampleSource,
        leaf: &Leaf,
        params: Vec<StepId>,
        grid: TimeGrid,
        options: &QueryOptions,
    ) -> Result<LeafEvaluator, QueryError> {
        let (from, to) = reach(source, leaf, grid, options);
        let selection = history.select(id, shard, &source.matchers, from, to)?;
        Ok(LeafEvaluator {
            id,
            source: source.clone(),
            leaf: leaf.clone(),
            params,
            selection,
            block: ValueBlock::default(),
            histograms: Vec::new(),
            reads_starts: options.dialect.start_timestamps && leaf.reads_starts(),
            typed: options.dialect.type_and_unit_labels,
            last_non_counter: None,
            duplicates: DuplicateLabels::default(),
            histogram_bytes: 0,
        })
    }

    pub(super) fn add_rows(
        &self,
        dialect: Dialect,
        out: &mut StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        eval_guard.new_rows(self.selection.labels.len())?;
        // The index returns series in label order, and unchanged labels stay so.
        if self.leaf.keeps_name() {
            eval_guard.rows(self.selection.labels.len())?;
            out.add_sorted_rows(&self.selection.labels);
            return Ok(());
        }
        for labels in &self.selection.labels {
            eval_guard.row()?;
            let named = leaf_labels(&self.leaf, labels, dialect);
            eval_guard.relabelled(&named.labels, labels)?;
            out.add_row_with_name_flag(named);
        }
        Ok(())
    }

    /// Whether the block has only floats and no two rows have the same labels; `out` has the
    /// labels.
    pub(super) fn is_simple(
        &mut self,
        out: &StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<bool, EvalError> {
        if !out.sorted {
            self.duplicates.add_rows(out, eval_guard)?;
        }
        Ok(self.duplicates.is_empty() && self.histograms.iter().all(HistogramColumn::is_empty))
    }

    /// Computes the value block of the leaf, and adds annotations.
    pub(super) fn fill(
        &mut self,
        block_input: &LeafBlockInput,
        scratch: &mut LeafScratch,
        origin: &StepOrigin,
        annotations: &mut AnnotationSet,
    ) -> Result<(), QueryError> {
        let rows = self.selection.labels.len();
        let steps = block_input.times.len();
        self.block.reset(rows, steps);
        self.histograms.clear();
        self.histograms.resize_with(steps, HistogramColumn::default);
        // The histograms of the block before have been read.
        block_input.guard.memory().shrink(std::mem::take(&mut self.histogram_bytes));
        let (from, to) = block_input.span;
        // A selector without a range at one time needs only the newest sample, which is found
        // without decoding the series.
        let latest = steps == 1 && !matches!(self.leaf, Leaf::Present(_) | Leaf::Window(..));
        let mut seen = SampleUsage::default();
        let mut eval_guard = EvaluationGuard::for_query(block_input.guard);
        for row in 0..rows {
            // Checked every 64 series, and more often if windows are long.
            if row % 64 == 0 || seen.samples > crate::limits::CHECK_SAMPLES {
                block_input.guard.count_samples(std::mem::take(&mut seen))?;
                block_input.guard.check()?;
            }
            // Decided per series: one series with histograms must not slow down all others.
            let mixed = self.is_mixed(row);
            scratch.ts.clear();
            scratch.vs.clear();
            let ts = &mut scratch.ts;
            let vs = &mut scratch.vs;
            let read = if latest && !mixed {
                self.selection.read_latest(row, from, to, ts, vs)
            } else {
                self.selection.read(row, from, to, ts, vs)
            };
            read?;
            if mixed {
                let mut findings = Findings::default();
                seen.add(self.mixed(row, block_input, scratch, &mut findings, &mut eval_guard)?);
                let metric = self.selection.labels[row].name();
                for annotation in findings.annotations(metric, self.leaf.annotation_target()) {
                    annotations.add(&annotation, origin);
                }
            } else {
                let done = self.series(row, block_input, scratch, &mut eval_guard);
                seen.add(done.map_err(|e| block_input.guard.failure(&e.0))?);
                // Only with `stats=all`: it costs a lock for each step of each series.
                if block_input.guard.counts_steps() {
                    self.count_steps(block_input, scratch);
                }
            }
            self.annotate_counter(row, origin, annotations);
        }
        self.annotate_params(block_input.params, origin, annotations);
        block_input.guard.count_samples(seen)
    }

    /// Counts the samples of a series by step.
    fn count_steps(&self, block_input: &LeafBlockInput, scratch: &LeafScratch) {
        let LeafBlockInput { times, ends, lookback, guard, .. } = *block_input;
        let floats = FloatSlices { ts: &scratch.ts, vs: &scratch.vs };
        match &self.leaf {
            Leaf::Value | Leaf::Timestamp(_) | Leaf::StartTimestamp | Leaf::Info => {
                let reach = self.leaf.reach(lookback);
                floats.latest(ends, reach, |i, _, _| guard.count_step(times[i], 1, 1));
            }
            Leaf::Present(range) | Leaf::Window(_, range) => {
                floats.windows(ends, *range, |i, lo, hi, fresh| guard.count_step(times[i], hi - lo, fresh));
            }
        }
    }

    /// Right edges of the windows.
    pub(super) fn ends(&self, times: &[TimeMs], grid: TimeGrid) -> Vec<TimeMs> {
        times.iter().map(|t| self.source.time(*t, grid.start, grid.end)).collect()
    }

    /// The first and the last time whose samples are read for these windows.
    pub(super) fn span(&self, ends: &[TimeMs], lookback: i64) -> (TimeMs, TimeMs) {
        let (back, ahead) = self.source.reach(&self.leaf, lookback);
        let first = ends.iter().min().copied().unwrap_or(TimeMs::MAX);
        let last = ends.iter().max().copied().unwrap_or(TimeMs::MIN);
        // Saturating: `@` and offsets may be anywhere in time. Plus one, since the left edge is
        // exclusive.
        (first.saturating_sub(back).saturating_add(1), last.saturating_add(ahead))
    }

    /// The scalar parameters, by step.
    pub(super) fn params(
        &self,
        times: &[TimeMs],
        stage: &mut Stage,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<Vec<Vec<f64>>, EvalError> {
        if self.params.is_empty() {
            return Ok(Vec::new());
        }
        let mut at = |t: TimeMs| {
            // Parameters are scalars without series, so all of them are among the steps before this
            // one.
            for id in 0..self.id {
                eval_guard.row()?;
                stage.eval_paced(id, t, eval_guard);
            }
            let value = |p: &StepId| stage.output(*p).values.first().copied().unwrap_or(f64::NAN);
            Ok(self.params.iter().map(value).collect())
        };
        times.iter().map(|t| at(*t)).collect()
    }

    /// Computes series `row`, which has only floats in plain windows.
    fn series(
        &mut self,
        row: usize,
        block_input: &LeafBlockInput,
        scratch: &mut LeafScratch,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<SampleUsage, EvalError> {
        let LeafBlockInput { times, ends, params, lookback, .. } = *block_input;
        if matches!(self.leaf, Leaf::Present(_) | Leaf::Window(..)) {
            drop_stale(&mut scratch.ts, &mut scratch.vs);
        }
        let floats = FloatSlices { ts: &scratch.ts, vs: &scratch.vs };
        let out = self.block.row_mut(row);
        Ok(match &self.leaf {
            Leaf::Value => floats.latest(ends, lookback, |i, _, v| out[i] = v),
            Leaf::Timestamp(shorter) => {
                floats.latest(ends, lookback - shorter, |i, t, _| out[i] = t as f64 / 1000.0)
            }
            Leaf::StartTimestamp => SampleUsage::default(),
            Leaf::Info => floats.latest(ends, lookback, |i, t, _| out[i] = t as f64),
            Leaf::Present(range) => floats.windows(ends, *range, |i, _, _, _| out[i] = 1.0),
            Leaf::Window(function, range) => {
                let Kernel::Window(kernel) = function.0.kernel else { return Ok(SampleUsage::default()) };
                let places = WindowGrid { times, ends, range: *range, params };
                floats.evaluate(kernel, places, &mut scratch.work, out, eval_guard)?
            }
        })
    }
}
