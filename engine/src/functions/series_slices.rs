//! The samples of one series as both runtimes pass them to kernels: floats, native histograms and
//! start timestamps, each in a slice in order of time. Windows and the newest sample are taken from
//! them.

use super::Window;
use super::extended::smoothed_float;
use super::extended_histograms::smoothed_histogram;
use super::findings::{Finding, Findings};
use super::window::{TimedHistogram, WindowSample};
use crate::types::histogram_column::Sample;
use std::sync::Arc;
use storage::model::histogram::ResetHint;
use storage::model::value::{ABSENT, is_stale};
use storage::model::{NativeHistogram, TimeMs};

/// The samples of one series.
#[derive(Copy, Clone, Debug, Default)]
pub struct SeriesSlices<'a> {
    /// Times of the floats.
    pub ts: &'a [TimeMs],
    /// The floats: for windows without stale markers, for [`SeriesSlices::newest`] with them.
    pub vs: &'a [f64],
    /// The native histograms.
    pub histograms: &'a [TimedHistogram],
    /// Start timestamps by the time of their sample.
    pub starts: &'a [(TimeMs, TimeMs)],
}

/// The range of the items with `after < t ≤ until`.
fn cut<T>(items: &[T], after: TimeMs, until: TimeMs, time: impl Fn(&T) -> TimeMs) -> std::ops::Range<usize> {
    let to = items.partition_point(|item| time(item) <= until);
    items[..to].partition_point(|item| time(item) <= after)..to
}

impl<'a> SeriesSlices<'a> {
    /// The samples with `after < t ≤ until`.
    #[must_use]
    pub fn slice(&self, after: TimeMs, until: TimeMs) -> SeriesSlices<'a> {
        let floats = cut(self.ts, after, until, |t| *t);
        SeriesSlices {
            ts: &self.ts[floats.clone()],
            vs: &self.vs[floats],
            histograms: &self.histograms[cut(self.histograms, after, until, |h| h.0)],
            starts: &self.starts[cut(self.starts, after, until, |s| s.0)],
        }
    }

    /// Number of samples of both kinds.
    pub fn len(&self) -> usize {
        self.ts.len() + self.histograms.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.ts.is_empty() && self.histograms.is_empty()
    }

    /// The window over all of them; other fields are taken from `like`.
    pub fn window(&self, like: Window<'a>) -> Window<'a> {
        Window { ts: self.ts, vs: self.vs, histograms: self.histograms, starts: self.starts, ..like }
    }

    /// The newest sample of either kind with `after < t ≤ until`, unless it is a stale marker.
    pub fn newest(&self, after: TimeMs, until: TimeMs) -> Option<WindowSample<'a>> {
        let slices = self.slice(after, until);
        let histogram = slices.histograms.last();
        match (slices.ts.last(), slices.vs.last()) {
            (Some(t), Some(v)) if histogram.is_none_or(|h| h.0 < *t) => {
                (!is_stale(*v)).then_some(WindowSample::Float(*t, *v))
            }
            _ => histogram.map(|(t, h)| WindowSample::Histogram(*t, h)),
        }
    }

    /// The start timestamp of the sample at `t`; 0 if it is not known.
    pub fn start_of(&self, t: TimeMs) -> TimeMs {
        self.starts.binary_search_by_key(&t, |(t, _)| *t).map_or(0, |at| self.starts[at].1)
    }

    /// The interpolated value at `t`; the slices have the samples within the lookback on both
    /// sides.
    pub fn smoothed(&self, t: TimeMs, findings: &mut Findings) -> Sample {
        if !self.ts.is_empty() && !self.histograms.is_empty() {
            findings.add(Finding::MixedKinds);
            return Sample::Float(ABSENT);
        }
        if self.histograms.is_empty() {
            return Sample::Float(smoothed_float(self.ts, self.vs, t).unwrap_or(ABSENT));
        }
        smoothed_histogram(self.histograms, t, findings).map_or(Sample::Float(ABSENT), Sample::Histogram)
    }
}

/// Sets the hints of all histograms but the first that have none: whether there was a reset before
/// them.
pub fn derive_reset_hints(histograms: &mut [TimedHistogram]) {
    for i in 1..histograms.len() {
        let (before, rest) = histograms.split_at_mut(i);
        let previous = &before[i - 1].1;
        let h = &mut rest[0].1;
        if h.hint == ResetHint::Unknown {
            let reset = h.detect_reset(previous);
            Arc::make_mut(h).hint = if reset { ResetHint::Reset } else { ResetHint::NotReset };
        }
    }
}

/// Removes the buckets of each histogram; count, sum and hint stay.
pub fn leave_buckets(histograms: &mut [TimedHistogram]) {
    for (_, h) in histograms {
        let NativeHistogram { schema, count, sum, hint, .. } = **h;
        *h = Arc::new(NativeHistogram { schema, count, sum, hint, ..NativeHistogram::default() });
    }
}

/// Removes stale markers from a series' floats.
pub fn drop_stale(ts: &mut Vec<TimeMs>, vs: &mut Vec<f64>) {
    if vs.iter().any(|v| is_stale(*v)) {
        let mut values = vs.iter();
        ts.retain(|_| values.next().is_some_and(|v| !is_stale(*v)));
        vs.retain(|v| !is_stale(*v));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::model::NativeHistogram;
    use storage::model::value::STALE;

    #[test]
    fn resets_are_told_where_they_are_not_known() {
        use ResetHint::{Gauge, NotReset, Reset, Unknown};
        let h = |count, hint| Arc::new(NativeHistogram { count, hint, ..NativeHistogram::default() });
        let mut all =
            vec![(1, h(5.0, Unknown)), (2, h(6.0, Unknown)), (3, h(2.0, Unknown)), (4, h(1.0, Gauge))];
        derive_reset_hints(&mut all);
        assert_eq!(all.iter().map(|(_, h)| h.hint).collect::<Vec<_>>(), [Unknown, NotReset, Reset, Gauge]);
    }

    #[test]
    fn the_newest_of_both_kinds_counts() {
        let histograms: Vec<TimedHistogram> =
            [20, 40].map(|t| (t, Arc::new(NativeHistogram::default()))).into();
        let slices = SeriesSlices {
            ts: &[10, 30, 50],
            vs: &[1.0, 2.0, STALE],
            histograms: &histograms,
            starts: &[(30, 5)],
        };
        let newest = |after, until| slices.newest(after, until).map(|p| p.t());
        assert_eq!(newest(0, 15), Some(10));
        assert_eq!(newest(0, 25), Some(20));
        assert_eq!(newest(0, 35), Some(30));
        assert_eq!(newest(0, 45), Some(40));
        assert_eq!(newest(0, 55), None, "a stale marker ends both kinds");
        assert_eq!(newest(20, 25), None, "the left edge is open");
        assert_eq!((slices.start_of(30), slices.start_of(40)), (5, 0));
        assert_eq!(slices.slice(10, 40).ts, [30]);
    }
}
