//! Evaluates one column (one series) of a block at one time. The result is the value and the time
//! until which it is valid, as far as the column itself decides it; its block may expire earlier.
//! The caller is [`super::blocks`].

use super::blocks::{BlockMethod, NumberedBlock};
use super::scratch::{BlockScratch, BlockTrends};
use super::{BlockWindow, LiveLeaf};
use crate::functions::findings::Findings;
use crate::functions::panes::RowSpan;
use crate::functions::rate::RateValidity;
use crate::functions::series_slices::SeriesSlices;
use crate::functions::window::{TimedHistogram, WindowSample};
use crate::functions::{Kernel, TimeDependence, Window, WindowKernel};
use crate::live::ring::RingBlock;
use crate::plan::WindowExtension;
use crate::plan::physical::Leaf;
use crate::types::histogram_column::Sample;
use storage::model::TimeMs;
use storage::model::value::{ABSENT, is_absent, is_histogram, is_sample, is_stale};

impl LiveLeaf {
    /// Whether a column needs more than its floats: it has histograms or start timestamps, the
    /// window is `anchored` or `smoothed`, or the parameters are rejected.
    pub(super) fn is_mixed(&self, block: &RingBlock, column: usize) -> bool {
        self.config.source.extension.is_some()
            || block.columns[column].has_extras
            || self.params.are_rejected()
    }

    /// Evaluates a column that has only floats.
    pub(super) fn float_column(
        &mut self,
        block: &RingBlock,
        column: usize,
        window: BlockWindow,
        method: &BlockMethod,
    ) -> (f64, TimeMs) {
        match &self.config.leaf {
            Leaf::Value => newest_value(block, column, window, |_, v| v),
            Leaf::Timestamp(_) => newest_value(block, column, window, |t, _| t as f64 / 1000.0),
            Leaf::StartTimestamp if !self.config.reads_starts => (ABSENT, TimeMs::MAX),
            // A float without extras has no start timestamp, which counts as 0.
            Leaf::StartTimestamp => newest_value(block, column, window, |_, _| 0.0),
            Leaf::Info => newest_value(block, column, window, |t, _| t as f64),
            Leaf::Present(_) => {
                // From the newest row backwards: series that live have a sample in the first row
                // that is looked at.
                let rows = window.lo..window.hi;
                let mut values = rows.rev().map(|i| block.value(block.base() + i as u32, column));
                let any = values.any(is_sample);
                (if any { 1.0 } else { ABSENT }, TimeMs::MAX)
            }
            Leaf::Window(function, _) => match function.0.kernel {
                Kernel::Window(kernel) => self.window_value(kernel, block, column, window, method),
                _ => (ABSENT, TimeMs::MAX),
            },
        }
    }

    /// Evaluates a window function over a column of floats, by the method of its block.
    fn window_value(
        &mut self,
        kernel: WindowKernel,
        block: &RingBlock,
        column: usize,
        rows: BlockWindow,
        method: &BlockMethod,
    ) -> (f64, TimeMs) {
        let BlockWindow { start, end, t, .. } = rows;
        let state = &block.columns[column];
        match method {
            // Computed for the whole block before. Functions with panes or sorted values change
            // only when a sample arrives or leaves, which the times of the block decide.
            BlockMethod::AllColumns => (self.scratch.values[column], TimeMs::MAX),
            BlockMethod::LineFits(of_line) => {
                let args = &self.params.values;
                let window = Window { start, end, t, args, ..Window::default() };
                match of_line(&self.scratch.line_fits[column], &window) {
                    Some((value, slope)) => self.trends.linear_value(column, value, slope, t),
                    // The sums have lost too much precision, so the line is fitted from the
                    // samples.
                    None => self.value_of_samples(kernel, block, column, rows),
                }
            }
            BlockMethod::Endpoints { number, ts, rows: values, from, pairs }
                if state.gapless_from <= *from && (!pairs || state.monotone_from <= *from) =>
            {
                // The gap or the reset has left the window.
                // The check first: nearly no column has a gap, and the map is looked up for every
                // column of every scrape.
                if !self.windows.gaps.is_empty() {
                    self.windows.gaps.remove(&(*number, column as u32));
                }
                let vs = values.map(|row| row[column]);
                let window = Window {
                    start,
                    end,
                    t,
                    args: &self.params.values,
                    ts,
                    vs: &vs,
                    // The kernel counts the samples that are left out: the average interval depends
                    // on their number.
                    skipped: rows.hi - rows.lo - 3,
                    monotone: *pairs,
                    ..Window::default()
                };
                kernel_value(kernel, column, &window, &mut self.trends)
            }
            // The column has a gap, or a counter was reset: its three samples are not in the three
            // rows, or do not suffice.
            BlockMethod::Endpoints { number, pairs, .. } => {
                self.value_of_abridged(kernel, NumberedBlock { number: *number, block }, column, *pairs, rows)
            }
            BlockMethod::Rescan => self.value_of_samples(kernel, block, column, rows),
        }
    }

    /// Evaluates a window with gaps or counter resets from its ends and the samples around the
    /// resets.
    fn value_of_abridged(
        &mut self,
        kernel: WindowKernel,
        numbered: NumberedBlock,
        column: usize,
        pairs: bool,
        rows: BlockWindow,
    ) -> (f64, TimeMs) {
        let BlockWindow { lo, hi, start, end, t, .. } = rows;
        let block = numbered.block;
        let span = RowSpan { from: block.base() + lo as u32, to: block.base() + hi as u32 };
        let BlockScratch { ts, vs, .. } = &mut self.scratch;
        let Some(skipped) = self.windows.abridge(numbered, column, span, pairs, ts, vs) else {
            // The abridged window does not suffice: read all samples.
            return self.value_of_samples(kernel, block, column, rows);
        };
        if vs.is_empty() {
            return (ABSENT, TimeMs::MAX);
        }
        let args = &self.params.values;
        let window = Window { start, end, t, args, ts, vs, skipped, ..Window::default() };
        kernel_value(kernel, column, &window, &mut self.trends)
    }

    /// Evaluates a window from all of its samples.
    fn value_of_samples(
        &mut self,
        kernel: WindowKernel,
        block: &RingBlock,
        column: usize,
        rows: BlockWindow,
    ) -> (f64, TimeMs) {
        let BlockWindow { lo, hi, start, end, t, .. } = rows;
        let from = block.base() + lo as u32;
        let state = &block.columns[column];
        let clock = &block.clock()[lo..hi];
        let BlockScratch { ts, vs, .. } = &mut self.scratch;
        // Copied, because a ring stores rows: the values of one column are not adjacent.
        block.column(lo..hi, column, vs);
        // A column without gaps has the times of its block, which need not be copied.
        let whole = state.gapless_from <= from;
        if !whole {
            keep_floats(clock, ts, vs, false);
        }
        if vs.is_empty() {
            return (ABSENT, TimeMs::MAX);
        }
        // Known from the appends, so the kernel need not compare the pairs again.
        let monotone = whole && state.monotone_from <= from;
        let times = if whole { clock } else { ts.as_slice() };
        let args = &self.params.values;
        let window = Window { start, end, t, args, ts: times, vs, monotone, ..Window::default() };
        kernel_value(kernel, column, &window, &mut self.trends)
    }

    /// Evaluates a column of any kind.
    pub(super) fn mixed_column(
        &mut self,
        block: &RingBlock,
        column: usize,
        rows: BlockWindow,
        findings: &mut Findings,
    ) -> (Sample, TimeMs) {
        let BlockWindow { lo, hi, after, until, end, t, .. } = rows;
        let source = &self.config.source;
        let smoothed = source.extension == Some(WindowExtension::Smoothed);
        let BlockScratch { ts, vs, .. } = &mut self.scratch;
        block.column(lo..hi, column, vs);
        // A stale marker ends a series for selectors of the newest value. Windows ignore it, as in
        // Prometheus.
        keep_floats(&block.clock()[lo..hi], ts, vs, self.config.is_latest() && !smoothed);
        let extras = block.extras(column);
        let mut histograms = extras.map_or(&[][..], |extras| &extras.histograms);
        let hinted: Vec<TimedHistogram>;
        let mut at_edge = false;
        let mut hint_source = TimeMs::MAX;
        // Prometheus derives hints while it decodes without buckets, so the result, annotations
        // included, must be computed from derived hints here as well.
        if source.counts_only && !histograms.is_empty() {
            hinted = self.config.histograms_in_window(histograms, rows);
            // The histogram at the left edge decides the hint of the one after it now, but not a
            // moment later.
            at_edge = hinted.first().is_some_and(|(first, _)| *first == after);
            // The same is true for the one before the newest, until it leaves the window.
            hint_source = hinted.iter().rev().nth(1).map_or(hint_source, |(t, _)| *t);
            histograms = &hinted;
        }
        let starts = extras.filter(|_| self.config.reads_starts).map_or(&[][..], |extras| &extras.starts);
        let slices = SeriesSlices { ts, vs, histograms, starts };
        let slices = slices.slice(after, until);
        // No value, and nothing in this column that could expire: the times of the block decide
        // when to look again.
        if slices.is_empty() {
            return (Sample::Float(ABSENT), TimeMs::MAX);
        }
        let of_newest = |sample: &dyn Fn(WindowSample) -> Sample| match slices.newest(after, until) {
            Some(point) => (sample(point), t + (point.t().min(hint_source) - after) - 1),
            None => (Sample::Float(ABSENT), TimeMs::MAX),
        };
        let seconds = |ms: TimeMs| Sample::Float(ms as f64 / 1000.0);
        match &self.config.leaf {
            // Interpolated between two samples, so the value moves with time: valid at `t` only.
            Leaf::Value if smoothed => (slices.smoothed(end, findings), t),
            Leaf::Value => of_newest(&|p| p.sample()),
            Leaf::Timestamp(_) => of_newest(&|p| seconds(p.t())),
            Leaf::Info => of_newest(&|p| p.time_of_float()),
            Leaf::StartTimestamp if !self.config.reads_starts => (Sample::Float(ABSENT), TimeMs::MAX),
            Leaf::StartTimestamp => of_newest(&|p| seconds(slices.start_of(p.t()))),
            Leaf::Present(_) => (Sample::Float(1.0), TimeMs::MAX),
            Leaf::Window(function, _) => {
                let Kernel::Window(kernel) = function.0.kernel else {
                    return (Sample::Float(ABSENT), TimeMs::MAX);
                };
                // Prometheus checks parameters only where there is a sample, so an empty selector
                // gives no error.
                self.params.met_samples |= self.params.rejection.is_some();
                let window = slices.window(Window {
                    start: rows.start,
                    end,
                    t,
                    args: &self.params.values,
                    extension: source.extension,
                    ..Window::default()
                });
                // The sample at the edge is outside of the window one millisecond later.
                let valid_until = if at_edge { t } else { kernel.valid_until(&window) };
                (kernel.value(&window, findings), valid_until)
            }
        }
    }
}

/// Computes the value of a window of floats, and until when it is valid although no sample arrives
/// or leaves.
fn kernel_value(
    kernel: WindowKernel,
    column: usize,
    window: &Window,
    trends: &mut BlockTrends,
) -> (f64, TimeMs) {
    match kernel.time_dependence {
        TimeDependence::OnExpiry => ((kernel.eval)(window), TimeMs::MAX),
        TimeDependence::Linear(line) => {
            let (value, slope) = line(window);
            trends.linear_value(column, value, slope, window.t)
        }
        // Without a value nothing moves: fewer than two samples stay fewer than two until one
        // arrives.
        TimeDependence::Extrapolated => match (kernel.eval)(window) {
            value if is_absent(value) => (value, TimeMs::MAX),
            value => (value, RateValidity::valid_until(window, &mut trends.rate_validity)),
        },
    }
}

/// Keeps the floats of `vs`, whose times are `clock`, and writes their times to `ts`. Stale markers
/// are kept if `stale`.
fn keep_floats(clock: &[TimeMs], ts: &mut Vec<TimeMs>, vs: &mut Vec<f64>, stale: bool) {
    // Markers of all three kinds are NaNs in the same column of floats.
    let wanted = |v: f64| !is_absent(v) && !is_histogram(v) && (stale || !is_stale(v));
    ts.clear();
    ts.extend(clock.iter().zip(vs.iter()).filter(|(_, v)| wanted(**v)).map(|(t, _)| *t));
    vs.retain(|v| wanted(*v));
}

/// What `value` makes of the newest sample of a column in the window; absent if that is a stale
/// marker.
fn newest_value(
    block: &RingBlock,
    column: usize,
    window: BlockWindow,
    value: impl Fn(TimeMs, f64) -> f64,
) -> (f64, TimeMs) {
    let at = |i: usize| block.value(block.base() + i as u32, column);
    let newest = (window.lo..window.hi).rev().map(|i| (i, at(i))).find(|(_, v)| !is_absent(*v));
    match newest {
        Some((i, v)) if !is_stale(v) => {
            let t = block.clock()[i];
            (value(t, v), window.t + (t - window.start) - 1)
        }
        _ => (ABSENT, TimeMs::MAX),
    }
}
