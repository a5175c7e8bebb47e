//! Windows: the samples of one series that a function gets at one time, and the description of a
//! window function.
//!
//! A window has floats and native histograms in separate slices, each in order of time. Most
//! windows have only floats and use [`WindowKernel::eval`]. Windows with histograms, start
//! timestamps or an extension (`anchored`, `smoothed`) use [`WindowKernel::mixed`]. What a kernel
//! finds in the samples is in [`super::findings`].

use super::findings::{Finding, Findings};
use super::line_fit::LineFit;
use super::panes::PaneFactory;
use super::rate;
use super::sliding_extremes::BatchKernel;
use super::sorted_window::SortedWindow;
use crate::types::WindowExtension;
use crate::types::histogram_column::Sample;
use std::sync::Arc;
use storage::model::value::ABSENT;
use storage::model::{NativeHistogram, TimeMs};

/// A histogram and its time.
pub type TimedHistogram = (TimeMs, Arc<NativeHistogram>);

/// A kernel for windows of any kind.
pub type MixedFn = fn(&Window, &mut Findings) -> Sample;

/// A window function.
#[derive(Copy, Clone, Debug)]
pub struct WindowKernel {
    /// The kernel for windows of floats; ABSENT if there is no value. `Window::ts` is never empty.
    pub eval: fn(&Window) -> f64,
    /// A simple, slow version of the kernel, with which tests compare it.
    pub reference: fn(&Window) -> f64,
    /// When the value changes although no sample arrives.
    pub time_dependence: TimeDependence,
    /// How the value is updated while the window slides.
    pub method: WindowMethod,
    /// What the function does with native histograms.
    pub mixed: HistogramSupport,
    /// The function expects counters: a float series whose name is not that of a counter gets an
    /// info.
    pub expects_counter: bool,
    /// Whether start timestamps matter.
    pub reads_starts: bool,
    /// A kernel for many windows of one series at once.
    pub batch_kernel: Option<BatchKernel>,
}

/// How a window function of floats is updated while its window slides.
#[derive(Copy, Clone, Debug)]
pub enum WindowMethod {
    /// All samples of the window are read again.
    Rescan,
    /// The kernel needs only the first sample, the last two and their number; and each pair, unless
    /// the window is monotone. So it may get an abridged window ([`Window::skipped`]).
    Endpoints {
        /// Whether it needs pairs.
        pairs: bool,
    },
    /// Long windows are computed from panes.
    Panes {
        /// Creates the panes.
        make: PaneFactory,
        /// The value equals that of the kernel bit by bit. Otherwise it is a sum in another order,
        /// which may differ by [`super::panes::REORDER_TOLERANCE`] of the sum of magnitudes.
        exact: bool,
    },
    /// Long windows are computed from a least-squares line, from panes. Returns the value, and its
    /// slope per second while no sample arrives or leaves. `None`: rounding decides the result, so
    /// the kernel must be used. The difference from the kernel is bounded by
    /// [`super::line_fit::REFIT_TOLERANCE`].
    LeastSquares(fn(&LineFit, &Window) -> Option<(f64, f64)>),
    /// The values of long windows are kept sorted. The value is computed from these (there is at
    /// least one) and from the scalar parameters; it equals that of the kernel bit by bit.
    Sorted(SortedKernel),
}

/// A kernel for sorted values, see [`WindowMethod::Sorted`].
pub type SortedKernel = fn(&SortedWindow, &[f64]) -> f64;

/// What a window function does with windows that do not have only floats.
#[derive(Copy, Clone, Debug)]
pub enum HistogramSupport {
    /// Ignores histograms; if there are floats as well, that is an info.
    Ignored,
    /// Has a kernel for them.
    Supported(MixedKernel),
}

/// The kernel for windows of any kind.
#[derive(Copy, Clone, Debug)]
pub struct MixedKernel {
    /// The kernel. The window has at least one sample.
    pub eval: MixedFn,
    /// The slow version.
    pub reference: MixedFn,
    /// What it supports, for the documentation.
    pub histograms: &'static str,
    /// Whether it supports `anchored`.
    pub anchored: bool,
    /// Whether it supports `smoothed`.
    pub smoothed: bool,
}

/// When the value of a window function changes although no sample arrives.
#[derive(Copy, Clone, Debug)]
pub enum TimeDependence {
    /// Only when a sample leaves the window.
    OnExpiry,
    /// When a sample leaves, and with time while one edge is extrapolated (`rate`, `increase`,
    /// `delta`).
    Extrapolated,
    /// At every tick, along a line: returns the value now and its slope per second while no sample
    /// arrives. A slope of NaN means that it is not known.
    Linear(fn(&Window) -> (f64, f64)),
}

/// The samples of one series in one window, and the times of the window.
#[derive(Copy, Clone, Debug, Default)]
pub struct Window<'a> {
    /// Times of the floats, ascending; without stale markers and absent values.
    pub ts: &'a [TimeMs],
    /// The float samples, by time, ascending.
    pub vs: &'a [f64],
    /// How many floats between the first and the second one were left out, because the kernel does
    /// not need them.
    pub skipped: usize,
    /// The native histograms, in order of time; never at the time of a float.
    pub histograms: &'a [TimedHistogram],
    /// Known start timestamps as (time of the sample, start), in order of time. For other samples
    /// it is 0.
    pub starts: &'a [(TimeMs, TimeMs)],
    /// Left edge, exclusive: every `ts > start`, unless `extension` says otherwise.
    pub start: TimeMs,
    /// Right edge, inclusive: evaluation time minus offset.
    pub end: TimeMs,
    /// Evaluation time.
    pub t: TimeMs,
    /// Scalar parameters, in order.
    pub args: &'a [f64],
    /// The caller knows that no float is below its predecessor, so kernels for counters need not
    /// check.
    pub monotone: bool,
    /// With an extension, samples within the lookback of the edges are included: before the left
    /// edge, and with `smoothed` after the right one.
    pub extension: Option<WindowExtension>,
}

impl<'a> Window<'a> {
    /// Number of samples.
    pub fn len(&self) -> usize {
        // Left-out samples count: `rate` divides by the number of intervals.
        self.ts.len() + self.skipped + self.histograms.len()
    }

    /// Whether there are no samples. Kernels never get such a window.
    pub fn is_empty(&self) -> bool {
        self.ts.is_empty() && self.histograms.is_empty()
    }

    /// Whether there are only floats within the edges, which is all that kernels for floats
    /// support.
    pub fn is_plain(&self) -> bool {
        self.histograms.is_empty() && self.starts.is_empty() && self.extension.is_none()
    }

    /// Length of the window, in ms.
    pub fn range(&self) -> i64 {
        self.end - self.start
    }

    /// Length of the window in seconds, rounded as Go's `Duration.Seconds`: whole seconds plus the
    /// rest.
    pub fn range_seconds(&self) -> f64 {
        let range = self.range();
        // `range as f64 / 1000.0` gives another last bit for some lengths, and every rate would
        // show it.
        (range / 1000) as f64 + ((range % 1000) * 1_000_000) as f64 / 1e9
    }

    /// The last evaluation time at which the sliding window still has its first sample.
    pub fn expiry(&self) -> TimeMs {
        // The left edge is exclusive, hence the last millisecond is the one before the edge reaches
        // the sample.
        self.t + (self.first_time() - self.start) - 1
    }

    /// Time of the oldest sample.
    pub fn first_time(&self) -> TimeMs {
        let float = self.ts.first().copied().unwrap_or(TimeMs::MAX);
        self.histograms.first().map_or(float, |(t, _)| float.min(*t))
    }

    /// The start timestamp of the sample at `t`; 0 if it is not known.
    pub fn start_of(&self, t: TimeMs) -> TimeMs {
        self.starts.binary_search_by_key(&t, |(t, _)| *t).map_or(0, |at| self.starts[at].1)
    }

    /// All samples in order of time.
    pub fn merged(&self) -> WindowSamples<'a> {
        WindowSamples { ts: self.ts, vs: self.vs, histograms: self.histograms }
    }
}

/// A sample of a window.
#[derive(Copy, Clone, Debug)]
pub enum WindowSample<'a> {
    /// A float.
    Float(TimeMs, f64),
    /// A native histogram.
    Histogram(TimeMs, &'a Arc<NativeHistogram>),
}

impl WindowSample<'_> {
    /// Time of the sample.
    pub fn t(&self) -> TimeMs {
        match self {
            WindowSample::Float(t, _) | WindowSample::Histogram(t, _) => *t,
        }
    }

    /// The time of a float in ms as a value; a histogram is returned as it is.
    pub fn time_of_float(&self) -> Sample {
        match self {
            WindowSample::Float(t, _) => Sample::Float(*t as f64),
            WindowSample::Histogram(..) => self.sample(),
        }
    }

    /// Value of the sample.
    pub fn sample(&self) -> Sample {
        match self {
            WindowSample::Float(_, v) => Sample::Float(*v),
            WindowSample::Histogram(_, h) => Sample::Histogram((*h).clone()),
        }
    }
}

/// The samples of a window in order of time, as a double-ended iterator.
#[derive(Clone, Debug)]
pub struct WindowSamples<'a> {
    ts: &'a [TimeMs],
    vs: &'a [f64],
    histograms: &'a [TimedHistogram],
}

impl<'a> Iterator for WindowSamples<'a> {
    type Item = WindowSample<'a>;

    fn next(&mut self) -> Option<WindowSample<'a>> {
        match (self.ts.first(), self.histograms.first()) {
            (Some(t), h) if h.is_none_or(|h| *t < h.0) => {
                let point = WindowSample::Float(*t, self.vs[0]);
                self.ts = &self.ts[1..];
                self.vs = &self.vs[1..];
                Some(point)
            }
            (_, Some((t, h))) => {
                self.histograms = &self.histograms[1..];
                Some(WindowSample::Histogram(*t, h))
            }
            _ => None,
        }
    }
}

impl<'a> DoubleEndedIterator for WindowSamples<'a> {
    fn next_back(&mut self) -> Option<WindowSample<'a>> {
        match (self.ts.last(), self.histograms.last()) {
            (Some(t), h) if h.is_none_or(|h| h.0 < *t) => {
                let last = self.ts.len() - 1;
                let point = WindowSample::Float(*t, self.vs[last]);
                self.ts = &self.ts[..last];
                self.vs = &self.vs[..last];
                Some(point)
            }
            (_, Some((t, h))) => {
                self.histograms = &self.histograms[..self.histograms.len() - 1];
                Some(WindowSample::Histogram(*t, h))
            }
            _ => None,
        }
    }
}

impl WindowKernel {
    /// A kernel of floats whose value changes when a sample leaves the window.
    pub(super) const fn floats(eval: fn(&Window) -> f64, reference: fn(&Window) -> f64) -> WindowKernel {
        WindowKernel {
            eval,
            reference,
            time_dependence: TimeDependence::OnExpiry,
            method: WindowMethod::Rescan,
            mixed: HistogramSupport::Ignored,
            expects_counter: false,
            reads_starts: false,
            batch_kernel: None,
        }
    }

    /// Sets when the value changes.
    pub(super) const fn time_dependence(mut self, time_dependence: TimeDependence) -> WindowKernel {
        self.time_dependence = time_dependence;
        self
    }

    /// Computed from the ends of its window; with `pairs` also from each pair, unless the window is
    /// monotone.
    pub(super) const fn endpoints(mut self, pairs: bool) -> WindowKernel {
        self.method = WindowMethod::Endpoints { pairs };
        self
    }

    /// Computed from panes.
    pub(super) const fn panes(mut self, make: PaneFactory, exact: bool) -> WindowKernel {
        self.method = WindowMethod::Panes { make, exact };
        self
    }

    /// Computed from a least-squares line, from panes.
    pub(super) const fn least_squares(
        mut self,
        of_line: fn(&LineFit, &Window) -> Option<(f64, f64)>,
    ) -> WindowKernel {
        self.method = WindowMethod::LeastSquares(of_line);
        self
    }

    /// Computed from sorted values.
    pub(super) const fn sorted(mut self, of_sorted: SortedKernel) -> WindowKernel {
        self.method = WindowMethod::Sorted(of_sorted);
        self
    }

    /// Has a kernel for many windows at once.
    pub(super) const fn batch_kernel(mut self, batch_kernel: BatchKernel) -> WindowKernel {
        self.batch_kernel = Some(batch_kernel);
        self
    }

    /// Supports windows of any kind.
    pub(super) const fn mixed_kernel(
        mut self,
        histograms: &'static str,
        eval: MixedFn,
        reference: MixedFn,
    ) -> WindowKernel {
        self.mixed = HistogramSupport::Supported(MixedKernel {
            eval,
            reference,
            histograms,
            anchored: false,
            smoothed: false,
        });
        self
    }

    /// Supports `anchored`, and perhaps `smoothed`.
    pub(super) const fn extended(mut self, smoothed: bool) -> WindowKernel {
        // Extended windows go through the mixed kernel, so a function without one cannot support
        // them.
        if let HistogramSupport::Supported(kernel) = &mut self.mixed {
            kernel.anchored = true;
            kernel.smoothed = smoothed;
        }
        self
    }

    /// Uses start timestamps.
    pub(super) const fn reads_starts(mut self) -> WindowKernel {
        self.reads_starts = true;
        self
    }

    /// Expects counters.
    pub(super) const fn expects_counter(mut self) -> WindowKernel {
        self.expects_counter = true;
        self
    }

    /// Whether it supports a window with this extension.
    pub fn allows(&self, extension: WindowExtension) -> bool {
        match (self.mixed, extension) {
            (HistogramSupport::Ignored, _) => false,
            (HistogramSupport::Supported(kernel), WindowExtension::Anchored) => kernel.anchored,
            (HistogramSupport::Supported(kernel), WindowExtension::Smoothed) => kernel.smoothed,
        }
    }

    /// The value of a window of any kind with at least one sample.
    pub fn value(&self, w: &Window, findings: &mut Findings) -> Sample {
        // Almost all windows are. The mixed kernel would give the same value, but looks at each
        // sample's kind.
        if w.is_plain() {
            return Sample::Float((self.eval)(w));
        }
        self.value_with(w, findings, self.eval, |kernel| kernel.eval)
    }

    /// The expected result of [`WindowKernel::value`].
    #[cfg(test)]
    pub(super) fn value_reference(&self, w: &Window, findings: &mut Findings) -> Sample {
        if w.is_plain() {
            return Sample::Float((self.reference)(w));
        }
        self.value_with(w, findings, self.reference, |kernel| kernel.reference)
    }

    fn value_with(
        &self,
        w: &Window,
        findings: &mut Findings,
        floats: fn(&Window) -> f64,
        mixed: fn(MixedKernel) -> MixedFn,
    ) -> Sample {
        match self.mixed {
            HistogramSupport::Supported(kernel) => mixed(kernel)(w, findings),
            // Only histograms: for such a function there are no samples, so it has no value and no
            // info either.
            HistogramSupport::Ignored if w.ts.is_empty() => Sample::Float(ABSENT),
            HistogramSupport::Ignored => {
                if !w.histograms.is_empty() {
                    findings.add(Finding::HistogramsIgnored);
                }
                Sample::Float(floats(w))
            }
        }
    }

    /// The last evaluation time, at least `w.t`, up to which the value stays the same while no
    /// sample arrives and the window slides with time. See [`rate::extrapolated_valid_until`] for
    /// the tolerance.
    pub fn valid_until(&self, w: &Window) -> TimeMs {
        match self.time_dependence {
            TimeDependence::Linear(_) => w.t,
            // Samples outside of the edges enter and leave as well, and `smoothed` interpolates:
            // the value may change at any time.
            _ if w.extension.is_some() => w.t,
            TimeDependence::OnExpiry => w.expiry(),
            TimeDependence::Extrapolated if w.is_plain() => rate::extrapolated_valid_until(w),
            // For histograms the edges would have to be examined bucket by bucket. They are
            // evaluated at every tick instead.
            TimeDependence::Extrapolated => w.t,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::testing::window;

    #[test]
    fn range_seconds_rounds_as_go_does() {
        let window = |range| Window { end: range, t: range, ..window(&[], &[]) };
        assert_eq!(window(300_000).range_seconds(), 300.0);
        assert_eq!(window(1_500).range_seconds(), 1.5);
        assert_eq!(window(2_001).range_seconds(), 2.0 + 0.001);
    }

    #[test]
    fn both_kinds_come_in_time_order() {
        let h = |t| (t, Arc::new(NativeHistogram::default()));
        let histograms = [h(5), h(20), h(25)];
        let w = Window { histograms: &histograms, ..window(&[10, 30], &[1.0, 2.0]) };
        let times: Vec<TimeMs> = w.merged().map(|p| p.t()).collect();
        assert_eq!(times, [5, 10, 20, 25, 30]);
        assert!(w.merged().rev().map(|p| p.t()).eq(times.into_iter().rev()));
        assert_eq!((w.len(), w.first_time()), (5, 5));
    }
}
