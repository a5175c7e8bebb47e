//! Window functions over one series that has only floats, in a range query: two cursors move along
//! its samples once, for all steps together. [`super::leaf`] calls this; other series are in
//! [`super::mixed_windows`].

use super::guard::SampleUsage;
use crate::functions::{TimeDependence, Window, WindowKernel};
use crate::operators::EvalError;
use crate::operators::evaluation_guard::EvaluationGuard;
use storage::model::TimeMs;
use storage::model::value::is_stale;

/// The floats of one series, in order of time.
#[derive(Copy, Clone)]
pub(super) struct FloatSlices<'a> {
    /// Times.
    pub ts: &'a [TimeMs],
    /// Values; for windows, without stale markers.
    pub vs: &'a [f64],
}

/// The windows of a series.
#[derive(Copy, Clone)]
pub(super) struct WindowGrid<'a> {
    /// Evaluation times.
    pub times: &'a [TimeMs],
    /// Right edges, ascending.
    pub ends: &'a [TimeMs],
    /// Length, in ms.
    pub range: i64,
    /// Scalar parameters of each window; empty if there are none.
    pub params: &'a [Vec<f64>],
}

/// Buffers that are reused from series to series.
#[derive(Default)]
pub(super) struct WindowScratch {
    resets: Vec<u32>,
    steps: Vec<usize>,
    spans: Vec<(usize, usize)>,
    slid: Vec<f64>,
}

impl FloatSlices<'_> {
    /// For each end: the newest sample within the lookback, unless it is a stale marker.
    pub(super) fn latest(
        &self,
        ends: &[TimeMs],
        lookback: i64,
        mut put: impl FnMut(usize, TimeMs, f64),
    ) -> SampleUsage {
        let mut hi = 0;
        let mut seen = SampleUsage::default();
        for (i, end) in ends.iter().enumerate() {
            while hi < self.ts.len() && self.ts[hi] <= *end {
                hi += 1;
            }
            if hi > 0 && self.ts[hi - 1] > end - lookback && !is_stale(self.vs[hi - 1]) {
                put(i, self.ts[hi - 1], self.vs[hi - 1]);
                seen.window(1, 1);
            }
        }
        seen
    }

    /// For each end: the samples with `end - range < t ≤ end`, if there are any, as `lo..hi`. The
    /// last argument of `put` is how many of them were in no earlier window.
    pub(super) fn windows(
        &self,
        ends: &[TimeMs],
        range: i64,
        mut put: impl FnMut(usize, usize, usize, usize),
    ) -> SampleUsage {
        let until = |edge: TimeMs| match self.ts.last() {
            Some(last) if *last > edge => self.ts.partition_point(|t| *t <= edge),
            _ => self.ts.len(),
        };
        // Found by binary search: the first window may be far from the beginning, and long.
        let first = ends.first().map(|end| (until(end - range), until(*end)));
        let (mut lo, mut hi) = first.unwrap_or_default();
        let mut before = 0;
        let mut seen = SampleUsage::default();
        for (i, end) in ends.iter().enumerate() {
            let start = end - range;
            while hi < self.ts.len() && self.ts[hi] <= *end {
                hi += 1;
            }
            while lo < hi && self.ts[lo] <= start {
                lo += 1;
            }
            if lo < hi {
                let fresh = hi - lo.max(before);
                put(i, lo, hi, fresh);
                seen.window(hi - lo, fresh);
                before = hi;
            }
        }
        seen
    }

    /// Writes the values of a window function to `out`, which has ABSENT for every step.
    pub(super) fn evaluate(
        &self,
        kernel: WindowKernel,
        places: WindowGrid,
        work: &mut WindowScratch,
        out: &mut [f64],
        eval_guard: &mut EvaluationGuard,
    ) -> Result<SampleUsage, EvalError> {
        match kernel.batch_kernel {
            Some(slide) if places.ends.len() > 1 => {
                work.steps.clear();
                work.spans.clear();
                let seen = self.windows(places.ends, places.range, |i, lo, hi, _| {
                    work.steps.push(i);
                    work.spans.push((lo, hi));
                });
                work.slid.clear();
                eval_guard.samples(self.vs.len() + work.spans.len())?;
                slide(self.vs, &work.spans, &mut work.slid);
                for (i, v) in work.steps.iter().zip(&work.slid) {
                    out[*i] = *v;
                }
                Ok(seen)
            }
            _ => self.one_by_one(kernel, places, &mut work.resets, out, eval_guard),
        }
    }

    fn one_by_one(
        &self,
        kernel: WindowKernel,
        places: WindowGrid,
        resets: &mut Vec<u32>,
        out: &mut [f64],
        eval_guard: &mut EvaluationGuard,
    ) -> Result<SampleUsage, EvalError> {
        let WindowGrid { times, ends, range, params } = places;
        count_resets(kernel, self.vs, resets);
        let mut in_time = Ok(());
        let seen = self.windows(ends, range, |i, lo, hi, _| {
            if in_time.is_ok() {
                in_time = eval_guard.samples(hi - lo);
            }
            if in_time.is_err() {
                return;
            }
            let window = Window {
                ts: &self.ts[lo..hi],
                vs: &self.vs[lo..hi],
                start: ends[i] - range,
                end: ends[i],
                t: times[i],
                args: params.get(i).map_or(&[], Vec::as_slice),
                monotone: !resets.is_empty() && resets[lo] == resets[hi - 1],
                ..Window::default()
            };
            out[i] = (kernel.eval)(&window);
        });
        in_time.map(|()| seen)
    }
}

/// For counters: how many resets there were up to each sample. If both ends of a window have the
/// same number, it has no reset.
fn count_resets(kernel: WindowKernel, vs: &[f64], resets: &mut Vec<u32>) {
    resets.clear();
    if !matches!(kernel.time_dependence, TimeDependence::Extrapolated) {
        return;
    }
    let mut count = 0;
    resets.extend(vs.iter().enumerate().map(|(i, v)| {
        // Not `<`: with a NaN on either side the kernel must look at the samples.
        let grows = i == 0 || *v >= vs[i - 1];
        count += u32::from(!grows);
        count
    }));
}
