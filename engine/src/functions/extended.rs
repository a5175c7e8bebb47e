//! Windows with `anchored` or `smoothed`: the value at an edge is that of the sample before it, or
//! is interpolated between the samples around it, instead of being extrapolated.
//!
//! This file has floats and what both kinds share. Histograms are in
//! [`super::extended_histograms`].

use super::findings::Findings;
use super::mixed_rate::{NOTHING, RateKind};
use super::{Window, extended_histograms};
use crate::types::WindowExtension;
use crate::types::histogram_column::Sample;
use storage::model::TimeMs;
use storage::model::value::ABSENT;

/// The part of an anchored window whose pairs of samples count: the newest sample at or before the
/// left edge, and all after it. `None` if there are none after it. Other windows are returned
/// unchanged.
pub(super) fn anchored<'a>(w: &Window<'a>) -> Option<Window<'a>> {
    if w.extension.is_none() {
        return Some(*w);
    }
    let floats = w.ts.partition_point(|t| *t <= w.start);
    let histograms = w.histograms.partition_point(|(t, _)| *t <= w.start);
    if floats == w.ts.len() && histograms == w.histograms.len() {
        return None;
    }
    let float = floats.checked_sub(1).map(|at| w.ts[at]);
    let histogram = histograms.checked_sub(1).map(|at| w.histograms[at].0);
    // The anchor is the newer of the two; samples of the other kind count only after the edge.
    let (floats, histograms) = match (float, histogram) {
        (None, None) => (0, 0),
        (Some(_), None) => (floats - 1, histograms),
        (Some(f), Some(h)) if f >= h => (floats - 1, histograms),
        _ => (floats, histograms - 1),
    };
    Some(Window { ts: &w.ts[floats..], vs: &w.vs[floats..], histograms: &w.histograms[histograms..], ..*w })
}

/// Which samples decide the values at the edges of a window.
#[derive(Copy, Clone, Debug)]
pub(super) struct EdgeSamples {
    /// The first sample to read: the newest at or before the left edge, or the first of all.
    pub first: usize,
    /// The last one: the newest of all, or with `smoothed` the first at or after the right edge.
    pub last: usize,
    /// Whether values are interpolated.
    pub smoothed: bool,
}

impl EdgeSamples {
    /// The samples for these times; `None` if none of them has an influence on the window.
    pub(super) fn find(w: &Window, times: usize, time: impl Fn(usize) -> TimeMs) -> Option<EdgeSamples> {
        EdgeSamples::find_any(w, times, &time).filter(|edges| !edges.smoothed || time(edges.first) <= w.end)
    }

    /// Like `find`, also if all samples are later than a smoothed window.
    fn find_any(w: &Window, times: usize, time: impl Fn(usize) -> TimeMs) -> Option<EdgeSamples> {
        let smoothed = w.extension == Some(WindowExtension::Smoothed);
        let newest = times.checked_sub(1)?;
        // The newest sample is not tested: it is the result if no other is.
        let search = |behind: &dyn Fn(TimeMs) -> bool| {
            let mut low = 0;
            let mut high = newest;
            while low < high {
                let middle = (low + high) / 2;
                if behind(time(middle)) {
                    high = middle;
                } else {
                    low = middle + 1;
                }
            }
            low
        };
        let first = search(&|t| t > w.start).saturating_sub(1);
        let last = if smoothed { search(&|t| t >= w.end) } else { newest };
        (time(last) > w.start).then_some(EdgeSamples { first, last, smoothed })
    }

    /// Whether the value at the left edge is interpolated with the next sample.
    pub(super) fn left_between(&self, w: &Window, time: impl Fn(usize) -> TimeMs) -> bool {
        self.smoothed && time(self.first) < w.start
    }

    /// Whether the value at the right edge is interpolated with the sample before.
    pub(super) fn right_between(&self, w: &Window, time: impl Fn(usize) -> TimeMs) -> bool {
        self.smoothed && self.last > 0 && time(self.last) > w.end
    }
}

/// A sample of floats.
#[derive(Copy, Clone)]
struct TimedValue {
    t: TimeMs,
    v: f64,
}

/// The interpolated value at `t` between two samples. If a counter was reset between them, it is
/// interpolated from zero.
fn between(before: TimedValue, after: TimedValue, t: TimeMs, counter: bool) -> f64 {
    let from = if counter && after.v < before.v { 0.0 } else { before.v };
    from + (after.v - from) * (t - before.t) as f64 / (after.t - before.t) as f64
}

/// `rate`, `increase` and `delta` of floats; ABSENT if there is no value.
pub(super) fn change(w: &Window, rule: RateKind) -> f64 {
    let Some(edges) = EdgeSamples::find(w, w.ts.len(), |i| w.ts[i]) else { return ABSENT };
    let (left, right) = ends(w, edges, rule.counter);
    let EdgeSamples { first, last, .. } = edges;
    let mut result = right - left;
    if rule.counter {
        let from = first + usize::from(w.ts[first] <= w.start);
        let to = last + usize::from(w.ts[last] < w.end);
        result += lost(left, right, w.vs.get(from..to).unwrap_or(&[]));
    }
    if rule.per_second { result / w.range_seconds() } else { result }
}

/// The samples within `edges` (exclusive, inclusive) and the values at the edges: an extended
/// window as the answer of a query.
pub fn extended_floats(
    ts: &[TimeMs],
    vs: &[f64],
    start: TimeMs,
    end: TimeMs,
    extension: WindowExtension,
) -> Vec<(TimeMs, f64)> {
    let w = Window { ts, vs, start, end, extension: Some(extension), ..Window::default() };
    let time = |i: usize| ts[i];
    // If only later samples are known, the first of them is the value at both edges.
    let Some(edges) = EdgeSamples::find_any(&w, ts.len(), time) else { return Vec::new() };
    let (left, right) = ends(&w, edges, false);
    let inner = ts.iter().copied().zip(vs.iter().copied()).filter(|(t, _)| start < *t && *t < end);
    [(start, left)].into_iter().chain(inner).chain([(end, right)]).collect()
}

/// The values at both edges.
fn ends(w: &Window, edges: EdgeSamples, counter: bool) -> (f64, f64) {
    let time = |i: usize| w.ts[i];
    let at = |i: usize| TimedValue { t: w.ts[i], v: w.vs[i] };
    let EdgeSamples { first, last, .. } = edges;
    let left = if edges.left_between(w, time) {
        between(at(first), at(first + 1), w.start, counter)
    } else {
        w.vs[first]
    };
    let right = if edges.right_between(w, time) {
        between(at(last - 1), at(last), w.end, counter)
    } else {
        w.vs[last]
    };
    (left, right)
}

/// The sum of what a counter lost by resets, on its way from `left` through `inner` to `right`.
fn lost(left: f64, right: f64, inner: &[f64]) -> f64 {
    let mut sum = 0.0;
    let mut before = left;
    for v in inner.iter().chain([&right]) {
        if *v < before {
            sum += before;
        }
        before = *v;
    }
    sum
}

/// The interpolated value of a series at `t`, or its last value: an instant selector with
/// `smoothed`. `None` if all samples are later.
pub fn smoothed_float(ts: &[TimeMs], vs: &[f64], t: TimeMs) -> Option<f64> {
    let next = ts.partition_point(|at| *at < t);
    let sample = |i: usize| TimedValue { t: ts[i], v: vs[i] };
    match (next.checked_sub(1), ts.get(next)) {
        (_, Some(at)) if *at == t => Some(vs[next]),
        (Some(before), Some(_)) => Some(between(sample(before), sample(next), t, false)),
        (Some(before), None) => Some(vs[before]),
        (None, _) => None,
    }
}

/// A slow version of [`change`] for windows of one kind, which lists the values step by step.
pub(super) fn change_reference(w: &Window, rule: RateKind, findings: &mut Findings) -> Sample {
    if !w.histograms.is_empty() {
        return extended_histograms::change_reference(w, rule, findings);
    }
    let smoothed = w.extension == Some(WindowExtension::Smoothed);
    let samples: Vec<(TimeMs, f64)> = w.ts.iter().copied().zip(w.vs.iter().copied()).collect();
    let before: Vec<_> = samples.iter().filter(|s| s.0 <= w.start).collect();
    let within: Vec<_> = samples.iter().filter(|s| s.0 > w.start && s.0 < w.end).collect();
    let behind: Vec<_> = samples.iter().filter(|s| s.0 >= w.end && (smoothed || s.0 == w.end)).collect();
    // There is no sample in the window, and none on both sides of it.
    if within.is_empty() && (behind.is_empty() || before.is_empty() && behind[0].0 > w.end) {
        return NOTHING;
    }
    let timed = |sample: &(TimeMs, f64)| TimedValue { t: sample.0, v: sample.1 };
    let line = |a: &(TimeMs, f64), b: &(TimeMs, f64), t| between(timed(a), timed(b), t, rule.counter);
    let mut path: Vec<f64> = Vec::new();
    match before.last() {
        Some(anchor) if smoothed && anchor.0 < w.start => {
            path.push(line(anchor, within.first().unwrap_or_else(|| &behind[0]), w.start));
        }
        Some(anchor) => path.push(anchor.1),
        None => {}
    }
    path.extend(within.iter().map(|s| s.1));
    if let Some(next) = behind.first() {
        let previous = within.last().or(before.last());
        path.push(match previous {
            Some(previous) if smoothed && next.0 > w.end => line(previous, next, w.end),
            _ => next.1,
        });
    }
    let mut change = path[path.len() - 1] - path[0];
    if rule.counter {
        let falls = path.windows(2).filter(|pair| pair[1] < pair[0]).map(|pair| pair[0]);
        change += falls.fold(0.0, |sum, v| sum + v);
    }
    Sample::Float(if rule.per_second { change / w.range_seconds() } else { change })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::testing::window;

    #[test]
    fn a_counter_that_fell_began_at_zero() {
        let at = |t: TimeMs, v: f64| TimedValue { t, v };
        assert_eq!(between(at(0, 10.0), at(10, 20.0), 5, true), 15.0);
        assert_eq!(between(at(0, 10.0), at(10, 4.0), 5, true), 2.0);
        assert_eq!(between(at(0, 10.0), at(10, 4.0), 5, false), 7.0);
    }

    #[test]
    fn edges_are_the_samples_around() {
        let of = |ts: &[TimeMs], smoothed| {
            let extension =
                Some(if smoothed { WindowExtension::Smoothed } else { WindowExtension::Anchored });
            let w = Window { start: 100, end: 200, extension, ..window(ts, &[]) };
            EdgeSamples::find(&w, ts.len(), |i| ts[i]).map(|e| (e.first, e.last))
        };
        assert_eq!(of(&[50, 90, 150, 190], false), Some((1, 3)));
        assert_eq!(of(&[50, 100, 150, 200], false), Some((1, 3)));
        assert_eq!(of(&[50, 90], false), None);
        assert_eq!(of(&[150], false), Some((0, 0)));
        assert_eq!(of(&[50, 90, 150, 190, 210, 220], true), Some((1, 4)));
        assert_eq!(of(&[90, 210], true), Some((0, 1)));
        assert_eq!(of(&[210], true), None);
        assert_eq!(of(&[90], true), None);
    }
}
