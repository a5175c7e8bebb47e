//! Evaluates one column of a block at one time. The result is the value and the time until which it
//! holds, as far as the column itself decides it; its block may expire earlier.

use super::super::ring::RingBlock;
use super::blocks::BlockMethod;
use super::{BlockWindow, LinearColumn, LiveLeaf};
use crate::functions::findings::Findings;
use crate::functions::rate::RateValidity;
use crate::functions::series_slices::{SeriesSlices, derive_reset_hints, leave_buckets};
use crate::functions::window::{TimedHistogram, WindowSample};
use crate::functions::{Kernel, TimeDependence, Window, WindowKernel};
use crate::plan::WindowExtension;
use crate::plan::physical::Leaf;
use crate::types::histogram_column::Sample;
use storage::model::TimeMs;
use storage::model::value::{ABSENT, is_absent, is_histogram, is_sample, is_stale};

impl LiveLeaf {
    /// Whether a column needs more than its floats: it has histograms or start timestamps, the
    /// window is `anchored` or `smoothed`, or the parameters are rejected.
    pub(super) fn is_mixed(&self, block: &RingBlock, column: usize) -> bool {
        self.source.extension.is_some() || block.columns[column].has_extras || self.refused.is_some()
    }

    /// Evaluates a column that has only floats.
    pub(super) fn column(
        &mut self,
        block: &RingBlock,
        column: usize,
        view: BlockWindow,
        way: &BlockMethod,
    ) -> (f64, TimeMs) {
        match &self.leaf {
            Leaf::Value => latest(block, column, view, |_, v| v),
            Leaf::Timestamp(_) => latest(block, column, view, |t, _| t as f64 / 1000.0),
            Leaf::StartTimestamp if !self.reads_starts => (ABSENT, TimeMs::MAX),
            // A float without extras has no start timestamp, which counts as 0.
            Leaf::StartTimestamp => latest(block, column, view, |_, _| 0.0),
            Leaf::Info => latest(block, column, view, |t, _| t as f64),
            Leaf::Present(_) => {
                let mut at = (view.lo..view.hi).rev().map(|i| block.value(block.base() + i as u32, column));
                let any = at.any(is_sample);
                (if any { 1.0 } else { ABSENT }, TimeMs::MAX)
            }
            Leaf::Window(function, _) => match function.0.kernel {
                Kernel::Window(kernel) => self.window(kernel, block, column, view, way),
                _ => (ABSENT, TimeMs::MAX),
            },
        }
    }

    /// Evaluates a window function over a column of floats, by the method of its block.
    fn window(
        &mut self,
        kernel: WindowKernel,
        block: &RingBlock,
        column: usize,
        view: BlockWindow,
        way: &BlockMethod,
    ) -> (f64, TimeMs) {
        let BlockWindow { start, end, t, .. } = view;
        let state = &block.columns[column];
        let window = Window { start, end, t, ..Window::default() };
        match way {
            BlockMethod::Swept => (self.swept[column], TimeMs::MAX),
            BlockMethod::Fitted(of_line) => {
                let answer = of_line(&self.fits[column], &Window { args: &self.params, ..window });
                // `None`: the sums have lost too much precision, so the line is fitted from the
                // samples.
                match answer {
                    Some(line) => self.along(column, line, t),
                    None => self.scan(kernel, block, column, view, window),
                }
            }
            BlockMethod::Ends { number, ts, rows, from, pairs }
                if state.whole_from <= *from && (!pairs || state.rising_from <= *from) =>
            {
                // The gap or the reset has left the window.
                if !self.irregular.is_empty() {
                    self.irregular.remove(&(*number, column as u32));
                }
                let vs = rows.map(|row| row[column]);
                let skipped = view.hi - view.lo - 3;
                let monotone = *pairs;
                self.plain(kernel, column, Window { ts, vs: &vs, skipped, monotone, ..window })
            }
            BlockMethod::Ends { number, pairs, .. } => {
                self.bent(kernel, (*number, block, column), *pairs, view, window)
            }
            BlockMethod::Each => self.scan(kernel, block, column, view, window),
        }
    }

    /// Evaluates a window with gaps or counter resets from its ends and the samples around the
    /// resets.
    fn bent(
        &mut self,
        kernel: WindowKernel,
        (number, block, column): (u32, &RingBlock, usize),
        pairs: bool,
        view: BlockWindow,
        window: Window,
    ) -> (f64, TimeMs) {
        let mut ts = std::mem::take(&mut self.ts);
        let mut vs = std::mem::take(&mut self.vs);
        let span = (block.base() + view.lo as u32, block.base() + view.hi as u32);
        let skipped = self.abridge((number, block, column), span, pairs, &mut ts, &mut vs);
        let value = skipped.map(|skipped| {
            if vs.is_empty() {
                (ABSENT, TimeMs::MAX)
            } else {
                self.plain(kernel, column, Window { ts: &ts, vs: &vs, skipped, ..window })
            }
        });
        self.ts = ts;
        self.vs = vs;
        // The abridged window does not suffice: read all samples.
        value.unwrap_or_else(|| self.scan(kernel, block, column, view, window))
    }

    /// Evaluates a window from all of its samples.
    fn scan(
        &mut self,
        kernel: WindowKernel,
        block: &RingBlock,
        column: usize,
        view: BlockWindow,
        window: Window,
    ) -> (f64, TimeMs) {
        let from = block.base() + view.lo as u32;
        let state = &block.columns[column];
        let mut ts = std::mem::take(&mut self.ts);
        let mut vs = std::mem::take(&mut self.vs);
        block.column(view.lo..view.hi, column, &mut vs);
        let whole = state.whole_from <= from;
        if !whole {
            keep_floats(&block.clock()[view.lo..view.hi], &mut ts, &mut vs, false);
        }
        let monotone = whole && state.rising_from <= from;
        let times = if whole { &block.clock()[view.lo..view.hi] } else { &ts };
        let value = if vs.is_empty() {
            (ABSENT, TimeMs::MAX)
        } else {
            self.plain(kernel, column, Window { ts: times, vs: &vs, monotone, ..window })
        };
        self.ts = ts;
        self.vs = vs;
        value
    }

    /// Computes the value of a window of floats.
    fn plain(&mut self, kernel: WindowKernel, column: usize, window: Window) -> (f64, TimeMs) {
        // Lent to the kernel for the duration of this call.
        let args = std::mem::take(&mut self.params);
        let window = Window { args: &args, ..window };
        let answer = match kernel.moves {
            TimeDependence::OnExpiry => ((kernel.eval)(&window), TimeMs::MAX),
            TimeDependence::Line(line) => {
                let line = line(&window);
                self.along(column, line, window.t)
            }
            TimeDependence::Extrapolated => match (kernel.eval)(&window) {
                value if is_absent(value) => (value, TimeMs::MAX),
                value => (value, RateValidity::valid_until(&window, &mut self.standing)),
            },
        };
        self.params = args;
        answer
    }

    /// A value that rises by `slope` per second from `t` on. A slope of NaN means that the change
    /// is unknown: the value holds only at `t`.
    fn along(&mut self, column: usize, (value, slope): (f64, f64), t: TimeMs) -> (f64, TimeMs) {
        if slope != 0.0 && !slope.is_nan() {
            self.rising.push(LinearColumn { column: column as u32, value, slope });
        }
        (value, if slope.is_nan() { t } else { TimeMs::MAX })
    }

    /// The histograms in the window, with reset hints that are derived from their predecessors.
    /// Windows include the sample at their left edge, which only serves as a predecessor. If the
    /// leaf needs no buckets, they are removed afterwards.
    fn told(&self, histograms: &[TimedHistogram], after: TimeMs, until: TimeMs) -> Vec<TimedHistogram> {
        let windows = matches!(self.leaf, Leaf::Window(..) | Leaf::Present(_));
        let from = histograms.partition_point(|(t, _)| *t < after + i64::from(!windows));
        let to = histograms.partition_point(|(t, _)| *t <= until);
        let mut told = histograms.get(from..to).unwrap_or(&[]).to_vec();
        derive_reset_hints(&mut told);
        if self.leaf.skims() {
            leave_buckets(&mut told);
        }
        told
    }

    /// Evaluates a column of any kind.
    pub(super) fn mixed(
        &mut self,
        block: &RingBlock,
        column: usize,
        view: BlockWindow,
        noticed: &mut Findings,
    ) -> (Sample, TimeMs) {
        let BlockWindow { lo, hi, after, until, end, t, .. } = view;
        let smoothed = self.source.extension == Some(WindowExtension::Smoothed);
        let newest_counts =
            matches!(self.leaf, Leaf::Value | Leaf::Timestamp(_) | Leaf::StartTimestamp | Leaf::Info);
        block.column(lo..hi, column, &mut self.vs);
        keep_floats(&block.clock()[lo..hi], &mut self.ts, &mut self.vs, newest_counts && !smoothed);
        let side = block.side(column);
        let mut histograms = side.map_or(&[][..], |side| &side.histograms);
        let told: Vec<TimedHistogram>;
        let mut at_edge = false;
        let mut teller = TimeMs::MAX;
        if self.source.skims && !histograms.is_empty() {
            told = self.told(histograms, after, until);
            // The histogram at the left edge decides the hint of the one after it now, but not a
            // moment later.
            at_edge = told.first().is_some_and(|(first, _)| *first == after);
            // The same holds for the one before the newest, until it leaves the window.
            teller = told.iter().rev().nth(1).map_or(teller, |(t, _)| *t);
            histograms = &told;
        }
        let starts = side.filter(|_| self.reads_starts).map_or(&[][..], |side| &side.starts);
        let lanes = SeriesSlices { ts: &self.ts, vs: &self.vs, histograms, starts };
        let lanes = lanes.slice(after, until);
        if lanes.is_empty() {
            return (Sample::Float(ABSENT), TimeMs::MAX);
        }
        let of_newest = |sample: &dyn Fn(WindowSample) -> Sample| match lanes.newest(after, until) {
            Some(point) => (sample(point), t + (point.t().min(teller) - after) - 1),
            None => (Sample::Float(ABSENT), TimeMs::MAX),
        };
        let seconds = |ms: TimeMs| Sample::Float(ms as f64 / 1000.0);
        match &self.leaf {
            Leaf::Value if smoothed => (lanes.smoothed(end, noticed), t),
            Leaf::Value => of_newest(&|p| p.sample()),
            Leaf::Timestamp(_) => of_newest(&|p| seconds(p.t())),
            Leaf::Info => of_newest(&|p| p.time_of_float()),
            Leaf::StartTimestamp if !self.reads_starts => (Sample::Float(ABSENT), TimeMs::MAX),
            Leaf::StartTimestamp => of_newest(&|p| seconds(lanes.start_of(p.t()))),
            Leaf::Present(_) => (Sample::Float(1.0), TimeMs::MAX),
            Leaf::Window(function, _) => {
                let Kernel::Window(kernel) = function.0.kernel else {
                    return (Sample::Float(ABSENT), TimeMs::MAX);
                };
                self.asked |= self.refused.is_some();
                let extension = self.source.extension;
                let window = lanes.window(Window {
                    start: view.start,
                    end,
                    t,
                    args: &self.params,
                    extension,
                    ..Window::default()
                });
                let holds = if at_edge { t } else { kernel.valid_until(&window) };
                (kernel.value(&window, noticed), holds)
            }
        }
    }
}

/// Keeps the floats of `vs`, whose times are `clock`, and writes their times to `ts`. Stale markers
/// are kept if `stale`.
fn keep_floats(clock: &[TimeMs], ts: &mut Vec<TimeMs>, vs: &mut Vec<f64>, stale: bool) {
    let wanted = |v: f64| !is_absent(v) && !is_histogram(v) && (stale || !is_stale(v));
    ts.clear();
    ts.extend(clock.iter().zip(vs.iter()).filter(|(_, v)| wanted(**v)).map(|(t, _)| *t));
    vs.retain(|v| wanted(*v));
}

/// The newest sample of a column in the window, unless it is a stale marker.
fn latest(
    block: &RingBlock,
    column: usize,
    view: BlockWindow,
    value: impl Fn(TimeMs, f64) -> f64,
) -> (f64, TimeMs) {
    let at = |i: usize| block.value(block.base() + i as u32, column);
    let newest = (view.lo..view.hi).rev().map(|i| (i, at(i))).find(|(_, v)| !is_absent(*v));
    match newest {
        Some((i, v)) if !is_stale(v) => {
            let t = block.clock()[i];
            (value(t, v), view.t + (t - view.start) - 1)
        }
        _ => (ABSENT, TimeMs::MAX),
    }
}
