//! Histograms in windows with `anchored` or `smoothed`: [`super::extended`] for histograms.
//! Interpolating two histograms interpolates each of their buckets.

use super::Window;
use super::extended::EdgeSamples;
use super::findings::{Finding, Findings};
use super::mixed_rate::{RateKind, answer, minus, plus};
use super::window::TimedHistogram;
use crate::types::WindowExtension;
use crate::types::histogram_column::Sample;
use std::sync::Arc;
use storage::model::histogram::ResetHint;
use storage::model::{NativeHistogram, TimeMs};

/// The interpolated histogram at `t`. If a counter was reset between the two, it is interpolated
/// from zero. `None`, with a finding, for custom and exponential buckets.
pub(super) fn between(
    before: &TimedHistogram,
    after: &TimedHistogram,
    t: TimeMs,
    counter: bool,
    findings: &mut Findings,
) -> Option<NativeHistogram> {
    if t == before.0 {
        return Some(NativeHistogram::clone(&before.1));
    }
    let mut result = NativeHistogram::clone(&after.1);
    if t == after.0 {
        return Some(result);
    }
    let share = (t - before.0) as f64 / (after.0 - before.0) as f64;
    if counter && after.1.detect_reset(&before.1) {
        result.mul(share);
        return Some(result);
    }
    minus(&mut result, &before.1, findings)?;
    result.mul(share);
    plus(&mut result, &before.1, findings)?;
    Some(result)
}

/// `rate`, `increase` and `delta` of histograms.
pub(super) fn change(w: &Window, rule: RateKind, findings: &mut Findings) -> Option<NativeHistogram> {
    let all = w.histograms;
    let time = |i: usize| all[i].0;
    let edges = EdgeSamples::find(w, all.len(), time)?;
    let EdgeSamples { first, last, .. } = edges;
    check(&all[first..=last], rule, findings)?;
    let left = if edges.left_between(w, time) {
        between(&all[first], &all[first + 1], w.start, rule.counter, findings)?
    } else {
        NativeHistogram::clone(&all[first].1)
    };
    let right = if edges.right_between(w, time) {
        between(&all[last - 1], &all[last], w.end, rule.counter, findings)?
    } else {
        NativeHistogram::clone(&all[last].1)
    };
    if !rule.counter && (left.hint != ResetHint::Gauge || right.hint != ResetHint::Gauge) {
        findings.add(Finding::NotAGauge);
    }
    let mut result = right.clone();
    minus(&mut result, &left, findings)?;
    if rule.counter
        && let Some(lost) = lost(w, edges, &left, &right, findings)?
    {
        plus(&mut result, &lost, findings)?;
    }
    if rule.per_second {
        result.div(w.range_seconds());
    }
    result.hint = ResetHint::Gauge;
    result.compact();
    Some(result)
}

/// Whether all histograms have buckets of one kind. For counters, gauges among them are a finding.
fn check(all: &[TimedHistogram], rule: RateKind, findings: &mut Findings) -> Option<()> {
    for (_, h) in all {
        if h.is_custom() != all[0].1.is_custom() {
            findings.add(Finding::MixedSchemas);
            return None;
        }
        if rule.counter && h.hint == ResetHint::Gauge {
            findings.add(Finding::NotACounter);
        }
    }
    Some(())
}

/// The sum of what a counter lost by resets on its way from the left edge to the right one, if
/// anything.
fn lost(
    w: &Window,
    edges: EdgeSamples,
    left: &NativeHistogram,
    right: &NativeHistogram,
    findings: &mut Findings,
) -> Option<Option<NativeHistogram>> {
    let all = w.histograms;
    let mut from = edges.first + 1;
    let mut before = left;
    if edges.left_between(w, |i| all[i].0) && all[from].1.detect_reset(&all[edges.first].1) {
        // The value at the left edge includes this reset already.
        before = &all[from].1;
        from += 1;
    }
    if from > edges.last {
        return Some(None);
    }
    let mut sum: Option<NativeHistogram> = None;
    // `right` replaces the sample from which it was computed.
    for h in all[from..edges.last].iter().map(|(_, h)| &**h).chain([right]) {
        if h.detect_reset(before) {
            match &mut sum {
                None => sum = Some(before.clone()),
                Some(sum) => plus(sum, before, findings)?,
            }
        }
        before = h;
    }
    Some(sum)
}

/// An instant selector with `smoothed` over histograms, like [`super::extended::smoothed_float`].
pub fn smoothed_histogram(
    all: &[TimedHistogram],
    t: TimeMs,
    findings: &mut Findings,
) -> Option<Arc<NativeHistogram>> {
    let next = all.partition_point(|(at, _)| *at < t);
    let before = next.checked_sub(1).map(|at| &all[at]);
    match (before, all.get(next)) {
        (_, Some((at, h))) if *at == t => Some(h.clone()),
        (Some(before), Some(after)) => {
            if before.1.is_custom() != after.1.is_custom() {
                findings.add(Finding::MixedSchemas);
                return None;
            }
            let gauges = before.1.hint == ResetHint::Gauge && after.1.hint == ResetHint::Gauge;
            between(before, after, t, !gauges, findings).map(Arc::new)
        }
        (Some((_, h)), None) => {
            // The hint relates to the previous sample of the series, which is another one here.
            Some(Arc::new(NativeHistogram { hint: ResetHint::Unknown, ..NativeHistogram::clone(h) }))
        }
        (None, _) => None,
    }
}

/// A slow version of [`change`], which lists the histograms step by step.
pub(super) fn change_reference(w: &Window, rule: RateKind, findings: &mut Findings) -> Sample {
    answer(reference(w, rule, findings))
}

fn reference(w: &Window, rule: RateKind, findings: &mut Findings) -> Option<NativeHistogram> {
    let smoothed = w.extension == Some(WindowExtension::Smoothed);
    let anchor = w.histograms.iter().rposition(|(t, _)| *t <= w.start);
    let first = anchor.unwrap_or(0);
    let end = w.histograms.iter().position(|(t, _)| smoothed && *t >= w.end);
    let last = end.unwrap_or(w.histograms.len() - 1);
    let used = w.histograms.get(first..=last).filter(|used| !used.is_empty())?;
    let newest = used[used.len() - 1].0;
    if newest <= w.start || smoothed && used[0].0 > w.end {
        return None;
    }
    for (_, h) in used {
        if h.is_custom() != used[0].1.is_custom() {
            findings.add(Finding::MixedSchemas);
            return None;
        }
        if rule.counter && h.hint == ResetHint::Gauge {
            findings.add(Finding::NotACounter);
        }
    }
    // The values of the counter: at the left edge, at the samples between, at the right edge.
    let count = used.len();
    let mut path: Vec<NativeHistogram> = used.iter().map(|(_, h)| NativeHistogram::clone(h)).collect();
    let cut = smoothed && used[0].0 < w.start;
    if cut {
        path[0] = between(&used[0], &used[1], w.start, rule.counter, findings)?;
    }
    if smoothed && count > 1 && newest > w.end {
        path[count - 1] = between(&used[count - 2], &used[count - 1], w.end, rule.counter, findings)?;
    }
    if !rule.counter && (path[0].hint != ResetHint::Gauge || path[count - 1].hint != ResetHint::Gauge) {
        findings.add(Finding::NotAGauge);
    }
    // A reset before the left edge is included in the value there.
    let through = cut && used[1].1.detect_reset(&used[0].1);
    let pairs = if rule.counter { 1 + usize::from(through)..count } else { 0..0 };
    let lost: Vec<_> =
        pairs.filter(|i| path[*i].detect_reset(&path[i - 1])).map(|i| path[i - 1].clone()).collect();
    let mut result = path[count - 1].clone();
    minus(&mut result, &path[0], findings)?;
    if let Some((first, rest)) = lost.split_first() {
        let mut sum = first.clone();
        for h in rest {
            plus(&mut sum, h, findings)?;
        }
        plus(&mut result, &sum, findings)?;
    }
    if rule.per_second {
        result.div(w.range_seconds());
    }
    result.hint = ResetHint::Gauge;
    result.compact();
    Some(result)
}
