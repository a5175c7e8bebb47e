//! Leaves over series that are not only floats in plain windows: native histograms, start
//! timestamps, extended windows (`anchored`, `smoothed`), functions that may reject their
//! parameters. [`super::leaf`] has the fast path for all others.

use super::QueryError;
use super::guard::{SampleUsage, histogram_bytes};
use super::leaf::{LeafBlockInput, LeafEvaluator, LeafScratch};
use crate::annotations::{AnnotationSet, AnnotationTarget, StepOrigin};
use crate::functions::findings::{Findings, non_counter_annotation};
use crate::functions::series_slices::{SeriesSlices, derive_reset_hints, drop_stale, leave_buckets};
use crate::functions::{Kernel, Window};
use crate::limits::ROW_SAMPLES;
use crate::operators::evaluation_guard::EvaluationGuard;
use crate::plan::WindowExtension;
use crate::plan::physical::Leaf;
use crate::types::histogram_column::Sample;
use storage::model::TimeMs;
use storage::model::value::{ABSENT, HISTOGRAM, is_absent, is_histogram};

/// Counts the samples in the windows of a series; a histogram counts as several.
struct WindowSampleCounter {
    /// The times of the samples, with the number of samples up to and including each.
    sums: Vec<(TimeMs, usize)>,
    /// Samples up to this time have been counted as fresh.
    before: TimeMs,
    seen: SampleUsage,
}

impl WindowSampleCounter {
    fn new(slices: &SeriesSlices) -> WindowSampleCounter {
        let floats = slices.ts.iter().map(|t| (*t, 1));
        let mut sums: Vec<(TimeMs, usize)> =
            floats.chain(slices.histograms.iter().map(|(t, h)| (*t, h.samples()))).collect();
        sums.sort_unstable_by_key(|(t, _)| *t);
        let mut sum = 0;
        for (_, count) in &mut sums {
            sum += *count;
            *count = sum;
        }
        WindowSampleCounter { sums, before: TimeMs::MIN, seen: SampleUsage::default() }
    }

    /// Number of samples up to `t`.
    fn up_to(&self, t: TimeMs) -> usize {
        let at = self.sums.partition_point(|(other, _)| *other <= t);
        at.checked_sub(1).map_or(0, |last| self.sums[last].1)
    }

    /// Number of samples with `after < t ≤ until`, and how many of them were in no earlier window.
    fn window(&mut self, after: TimeMs, until: TimeMs) -> (usize, usize) {
        let to = self.up_to(until);
        let samples = to.saturating_sub(self.up_to(after));
        let fresh = to.saturating_sub(self.up_to(after.max(self.before)));
        self.before = self.before.max(until);
        (samples, fresh)
    }
}

impl LeafEvaluator {
    /// Whether series `row` needs more than its floats.
    pub(super) fn is_mixed(&self, row: usize) -> bool {
        let checked = matches!(&self.leaf, Leaf::Window(function, _) if function.0.check.is_some());
        checked
            || self.source.extension.is_some()
            || self.leaf == Leaf::StartTimestamp
            || self.selection.has_histograms(row)
            || (self.reads_starts && self.selection.has_starts(row))
    }

    /// Computes series `row` over the block. Its floats have been read.
    pub(super) fn mixed(
        &mut self,
        row: usize,
        block_input: &LeafBlockInput,
        scratch: &mut LeafScratch,
        findings: &mut Findings,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<SampleUsage, QueryError> {
        let (from, to) = block_input.span;
        scratch.histograms.clear();
        scratch.starts.clear();
        let reads_windows = matches!(self.leaf, Leaf::Window(..) | Leaf::Present(_));
        // Prometheus' iterator over a window begins at the left edge, which is not part of the
        // window but determines the reset hint of the next sample.
        let first = from - i64::from(self.source.counts_only && reads_windows);
        self.selection.read_histograms(row, first, to, &mut scratch.histograms)?;
        if self.source.counts_only {
            derive_reset_hints(&mut scratch.histograms);
            if self.leaf.drops_buckets() {
                leave_buckets(&mut scratch.histograms);
            }
        }
        if self.reads_starts {
            self.selection.read_starts(row, from, to, &mut scratch.starts)?;
        }
        let smoothed = self.source.extension == Some(WindowExtension::Smoothed);
        if reads_windows || smoothed {
            drop_stale(&mut scratch.ts, &mut scratch.vs);
        }
        let slices = SeriesSlices {
            ts: &scratch.ts,
            vs: &scratch.vs,
            histograms: &scratch.histograms,
            starts: &scratch.starts,
        };
        let mut counter = WindowSampleCounter::new(&slices);
        for i in 0..block_input.ends.len() {
            let before = counter.seen.samples;
            let sample = self.sample(&slices, block_input, i, findings)?;
            self.count(&mut counter, block_input, i, &sample);
            eval_guard
                .samples(ROW_SAMPLES + counter.seen.samples - before)
                .map_err(|e| block_input.guard.failure(&e.0))?;
            if let Sample::Histogram(h) = &sample {
                block_input.guard.grow(histogram_bytes(h))?;
                self.histogram_bytes += histogram_bytes(h);
            }
            self.put(i, row, sample);
        }
        Ok(counter.seen)
    }

    /// Counts the samples of step `i`.
    fn count(
        &self,
        counter: &mut WindowSampleCounter,
        block_input: &LeafBlockInput,
        i: usize,
        sample: &Sample,
    ) {
        let (back, ahead) = self.source.reach(&self.leaf, block_input.lookback);
        let end = block_input.ends[i];
        let (samples, fresh) = match (&self.leaf, sample) {
            (Leaf::Window(..) | Leaf::Present(_), _) => counter.window(end - back, end + ahead),
            (_, Sample::Float(v)) => (usize::from(!is_absent(*v)), usize::from(!is_absent(*v))),
            (_, Sample::Histogram(h)) => (h.samples(), h.samples()),
        };
        if samples > 0 {
            counter.seen.window(samples, fresh);
            block_input.guard.count_step(block_input.times[i], samples, fresh);
        }
        if let Sample::Histogram(h) = sample {
            counter.seen.points += h.samples() - 1;
        }
    }

    /// The value at step `i` of the block.
    fn sample(
        &self,
        slices: &SeriesSlices,
        block_input: &LeafBlockInput,
        i: usize,
        findings: &mut Findings,
    ) -> Result<Sample, QueryError> {
        let end = block_input.ends[i];
        let (back, ahead) = self.source.reach(&self.leaf, block_input.lookback);
        let newest = || slices.newest(end - back, end);
        let seconds = |ms: Option<TimeMs>| Sample::Float(ms.map_or(ABSENT, |ms| ms as f64 / 1000.0));
        Ok(match &self.leaf {
            Leaf::Value if self.source.extension == Some(WindowExtension::Smoothed) => {
                slices.slice(end - back, end + ahead).smoothed(end, findings)
            }
            Leaf::Value => newest().map_or(Sample::Float(ABSENT), |p| p.sample()),
            Leaf::Timestamp(_) => seconds(newest().map(|p| p.t())),
            Leaf::Info => newest().map_or(Sample::Float(ABSENT), |p| p.time_of_float()),
            Leaf::StartTimestamp if !self.reads_starts => Sample::Float(ABSENT),
            Leaf::StartTimestamp => seconds(newest().map(|p| slices.start_of(p.t()))),
            Leaf::Present(_) => {
                let none = slices.slice(end - back, end).is_empty();
                Sample::Float(if none { ABSENT } else { 1.0 })
            }
            Leaf::Window(function, range) => {
                let Kernel::Window(kernel) = function.0.kernel else { return Ok(Sample::Float(ABSENT)) };
                let slices = slices.slice(end - back, end + ahead);
                if slices.is_empty() {
                    return Ok(Sample::Float(ABSENT));
                }
                let args = block_input.params.get(i).map_or(&[][..], Vec::as_slice);
                if let Some(check) = function.0.check {
                    check(args).map_err(|error| QueryError::Execution(error.to_string()))?;
                }
                let window = slices.window(Window {
                    start: end - range,
                    end,
                    t: block_input.times[i],
                    args,
                    extension: self.source.extension,
                    ..Window::default()
                });
                kernel.value(&window, findings)
            }
        })
    }

    fn put(&mut self, i: usize, row: usize, sample: Sample) {
        match sample {
            Sample::Float(v) => self.block.set(i, row, v),
            Sample::Histogram(h) => {
                self.block.set(i, row, HISTOGRAM);
                self.histograms[i].set(row, Some(h));
            }
        }
    }

    /// Adds an annotation if a function for counters was applied to a series whose name is not that
    /// of a counter; called after the block of the series is computed.
    pub(super) fn annotate_counter(
        &mut self,
        row: usize,
        origin: &StepOrigin,
        annotations: &mut AnnotationSet,
    ) {
        let Leaf::Window(function, _) = &self.leaf else { return };
        let Kernel::Window(kernel) = function.0.kernel else { return };
        let labels = &self.selection.labels[row];
        if !kernel.expects_counter || self.last_non_counter.as_deref() == Some(labels.name()) {
            return;
        }
        let Some(annotation) = non_counter_annotation(labels, self.typed, AnnotationTarget::Operand(0))
        else {
            return;
        };
        if self.block.row(row).iter().any(|v| !is_absent(*v) && !is_histogram(*v)) {
            annotations.add(&annotation, origin);
            // Series with the same name are adjacent, and get the same annotation unless types
            // differ.
            self.last_non_counter = (!self.typed).then(|| labels.name().to_owned());
        }
    }

    /// Adds annotations about the parameters of steps that have values.
    pub(super) fn annotate_params(
        &self,
        params: &[Vec<f64>],
        origin: &StepOrigin,
        annotations: &mut AnnotationSet,
    ) {
        let Leaf::Window(function, _) = &self.leaf else { return };
        let Some(annotate_params) = function.0.annotate_params else { return };
        for (step, args) in params.iter().enumerate() {
            if let Some(annotation) = annotate_params(args).filter(|_| self.block.any(step)) {
                annotations.add(&annotation, origin);
            }
        }
    }
}
