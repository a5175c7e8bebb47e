//! `rate`, `increase` and `delta` of windows with native histograms or start timestamps. The
//! extrapolation to the window's edges is that of floats ([`super::rate`]); windows with `anchored`
//! or `smoothed` are in [`super::extended`].

use super::findings::{Finding, Findings};
use super::rate::SampledSpan;
use super::start_timestamps::StartedSample;
use super::window::TimedHistogram;
use super::{Window, extended, extended_histograms};
use crate::types::histogram_column::Sample;
use std::sync::Arc;
use storage::model::histogram::ResetHint;
use storage::model::value::ABSENT;
use storage::model::{NativeHistogram, TimeMs};

/// Which of the three functions it is.
#[derive(Copy, Clone, Debug)]
pub(super) struct RateKind {
    /// Corrects for resets and never extrapolates below zero.
    pub counter: bool,
    /// Divides by the length of the window.
    pub per_second: bool,
}

const RATE: RateKind = RateKind { counter: true, per_second: true };
const INCREASE: RateKind = RateKind { counter: true, per_second: false };
const DELTA: RateKind = RateKind { counter: false, per_second: false };

pub(super) fn rate(w: &Window, findings: &mut Findings) -> Sample {
    change(w, RATE, findings)
}

pub(super) fn increase(w: &Window, findings: &mut Findings) -> Sample {
    change(w, INCREASE, findings)
}

pub(super) fn delta(w: &Window, findings: &mut Findings) -> Sample {
    change(w, DELTA, findings)
}

/// No value.
pub(super) const NOTHING: Sample = Sample::Float(ABSENT);

/// The histogram as a sample, or no value.
pub(super) fn answer(histogram: Option<NativeHistogram>) -> Sample {
    histogram.map_or(NOTHING, |h| Sample::Histogram(Arc::new(h)))
}

fn change(w: &Window, rule: RateKind, findings: &mut Findings) -> Sample {
    match (w.ts.is_empty(), w.histograms.is_empty(), w.extension) {
        // Prometheus gives no result for a window of both kinds, and a warning, even with an
        // extension.
        (false, false, _) => {
            findings.add(Finding::MixedKinds);
            NOTHING
        }
        (false, true, None) => Sample::Float(floats(w, rule, findings)),
        (_, _, None) => answer(histograms(w, rule, findings)),
        (false, true, Some(_)) => Sample::Float(extended::change(w, rule)),
        (_, _, Some(_)) => answer(extended_histograms::change(w, rule, findings)),
    }
}

/// What start timestamps say about the samples at `times`: whether the counter was reset between
/// each sample and the previous one (`false` for the first), and whether some overlap.
fn resets_by_start(w: &Window, times: impl Iterator<Item = TimeMs>) -> (Vec<bool>, bool) {
    let counted: Vec<StartedSample> = times.map(|t| StartedSample::at(w, t)).collect();
    let resets = counted.windows(2).map(|pair| pair[1].reset_since(pair[0]));
    let resets = [false].into_iter().chain(resets).collect();
    (resets, counted.windows(2).any(|pair| pair[1].overlaps(pair[0])))
}

fn add_overlap(overlap: bool, findings: &mut Findings) {
    if overlap {
        findings.overlap();
    }
}

/// Floats with start timestamps.
fn floats(w: &Window, rule: RateKind, findings: &mut Findings) -> f64 {
    let last = w.ts.len() - 1;
    let mut result = w.vs[last] - w.vs[0];
    let mut started = None;
    if rule.counter {
        let (resets, overlap) = resets_by_start(w, w.ts.iter().copied());
        add_overlap(overlap, findings);
        for (i, pair) in w.vs.windows(2).enumerate() {
            // A counter that was reset may have risen above its old value since: only the start
            // timestamp shows that.
            if pair[1] < pair[0] || resets[i + 1] {
                result += pair[0];
            }
        }
        started = StartedSample::at(w, w.ts[0]).started_in(w);
        if started.is_some() {
            result += w.vs[0];
        }
    }
    let sampled = SampledSpan { first: w.ts[0], last: w.ts[last], count: last + 1, started };
    let factor = sampled.factor(w, rule.counter.then_some((w.vs[0], result)), rule.per_second);
    factor.map_or(ABSENT, |factor| result * factor)
}

fn histograms(w: &Window, rule: RateKind, findings: &mut Findings) -> Option<NativeHistogram> {
    let first = w.histograms.first()?;
    let last = w.histograms.last()?;
    let (resets, overlap) = if rule.counter {
        resets_by_start(w, w.histograms.iter().map(|(t, _)| *t))
    } else {
        (Vec::new(), false)
    };
    let mut result = None;
    if w.histograms.len() > 1 {
        // A single histogram has no change, unless its start is within the window.
        result = Some(raw_change(w, rule, &resets, findings)?);
    }
    let started = if rule.counter { StartedSample::at(w, first.0).started_in(w) } else { None };
    if started.is_some() {
        result = Some(match result {
            None => NativeHistogram::clone(&first.1),
            Some(mut change) => {
                plus(&mut change, &first.1, findings)?;
                change
            }
        });
    }
    let mut result = result?;
    // If the result fails, only the failure is a finding.
    add_overlap(overlap, findings);
    let sampled = SampledSpan { first: first.0, last: last.0, count: w.histograms.len(), started };
    let factor = sampled.factor(w, rule.counter.then_some((first.1.count, result.count)), rule.per_second)?;
    result.mul(factor);
    Some(result)
}

/// Adds `other`; `None`, with a finding, if that is not possible.
pub(super) fn plus(h: &mut NativeHistogram, other: &NativeHistogram, findings: &mut Findings) -> Option<()> {
    let Ok(reconciled) = h.add(other) else {
        findings.add(Finding::MixedSchemas);
        return None;
    };
    if reconciled.bounds {
        findings.add(Finding::ReconciledAdd);
    }
    Some(())
}

/// Subtracts `other`, like [`plus`].
pub(super) fn minus(h: &mut NativeHistogram, other: &NativeHistogram, findings: &mut Findings) -> Option<()> {
    let Ok(reconciled) = h.sub(other) else {
        findings.add(Finding::MixedSchemas);
        return None;
    };
    if reconciled.bounds {
        findings.add(Finding::ReconciledSub);
    }
    Some(())
}

/// The change from the first histogram to the last, corrected for resets if it is a counter.
fn raw_change(
    w: &Window,
    rule: RateKind,
    resets: &[bool],
    findings: &mut Findings,
) -> Option<NativeHistogram> {
    // Of their own, because some are dropped if the histograms cannot be subtracted.
    let mut own_findings = Findings::default();
    let outcome = if rule.counter {
        counter_change(w, resets, &mut own_findings)
    } else {
        gauge_change(w, &mut own_findings)
    };
    match outcome {
        Ok(mut change) => {
            findings.merge(own_findings);
            // A rate may fall, so it must not be taken for a counter by what comes next.
            change.hint = ResetHint::Gauge;
            change.compact();
            Some(change)
        }
        Err(SchemaMismatch::Ends) => {
            findings.merge(own_findings);
            findings.add(Finding::MixedSchemas);
            None
        }
        // As in Prometheus: earlier findings are dropped.
        Err(SchemaMismatch::Between) => {
            findings.add(Finding::MixedSchemas);
            None
        }
    }
}

/// Where custom and exponential buckets occur together.
#[derive(Copy, Clone, Debug)]
enum SchemaMismatch {
    /// The first and the last histogram.
    Ends,
    /// Another one.
    Between,
}

fn gauge_change(w: &Window, own_findings: &mut Findings) -> Result<NativeHistogram, SchemaMismatch> {
    let first = &w.histograms[0].1;
    let last = &w.histograms[w.histograms.len() - 1].1;
    if last.is_custom() != first.is_custom() {
        return Err(SchemaMismatch::Ends);
    }
    // To the coarser resolution first: buckets can be merged, but not divided.
    let mut result = last.to_schema(last.schema.min(first.schema)).map_err(|_| SchemaMismatch::Between)?;
    minus(&mut result, first, own_findings).ok_or(SchemaMismatch::Between)?;
    if first.hint != ResetHint::Gauge || last.hint != ResetHint::Gauge {
        own_findings.add(Finding::NotAGauge);
    }
    Ok(result)
}

fn counter_change(
    w: &Window,
    resets: &[bool],
    own_findings: &mut Findings,
) -> Result<NativeHistogram, SchemaMismatch> {
    let all = w.histograms;
    let first = &all[0].1;
    let second = &all[1].1;
    let last = &all[all.len() - 1].1;
    let is_gauge = |h: &NativeHistogram| h.hint == ResetHint::Gauge;
    // Only a warning: the result is computed as if it were a counter, as in Prometheus.
    if is_gauge(first) || is_gauge(last) {
        own_findings.add(Finding::NotACounter);
    }
    // If there is a reset right after the first histogram, that counts for nothing, so its buckets
    // must not matter.
    let nothing = NativeHistogram {
        schema: second.schema,
        bounds: second.bounds.clone(),
        ..NativeHistogram::default()
    };
    let base = if resets[1] || second.detect_reset(first) { &nothing } else { &**first };
    if last.is_custom() != base.is_custom() {
        return Err(SchemaMismatch::Ends);
    }
    let mut schema = last.schema.min(base.schema);
    for (_, h) in &all[1..all.len() - 1] {
        if is_gauge(h) {
            own_findings.add(Finding::NotACounter);
        }
        // All histograms between count too, since the value before each reset is added.
        schema = schema.min(h.schema);
        if h.is_custom() != base.is_custom() {
            return Err(SchemaMismatch::Between);
        }
    }
    let mut result = last.to_schema(schema).map_err(|_| SchemaMismatch::Between)?;
    minus(&mut result, base, own_findings).ok_or(SchemaMismatch::Between)?;
    let mut before = base;
    for ((_, h), by_start) in all.iter().zip(resets.iter().copied()).skip(1) {
        if by_start || h.detect_reset(before) {
            plus(&mut result, before, own_findings).ok_or(SchemaMismatch::Between)?;
        }
        before = h;
    }
    Ok(result)
}

pub(super) fn rate_reference(w: &Window, findings: &mut Findings) -> Sample {
    reference(w, RATE, findings)
}

pub(super) fn increase_reference(w: &Window, findings: &mut Findings) -> Sample {
    reference(w, INCREASE, findings)
}

pub(super) fn delta_reference(w: &Window, findings: &mut Findings) -> Sample {
    reference(w, DELTA, findings)
}

/// Follows the words of the specification, step by step.
fn reference(w: &Window, rule: RateKind, findings: &mut Findings) -> Sample {
    if !w.ts.is_empty() && !w.histograms.is_empty() {
        findings.add(Finding::MixedKinds);
        return NOTHING;
    }
    if w.extension.is_some() {
        return extended::change_reference(w, rule, findings);
    }
    let counted: Vec<StartedSample> = w.merged().map(|p| StartedSample::at(w, p.t())).collect();
    let overlap = rule.counter && (1..counted.len()).any(|i| counted[i].overlaps(counted[i - 1]));
    let by_start: Vec<bool> =
        (0..counted.len()).map(|i| rule.counter && i > 0 && counted[i].reset_since(counted[i - 1])).collect();
    let started = if rule.counter { counted[0].started_in(w) } else { None };
    let first = counted[0].t;
    let last = counted[counted.len() - 1].t;
    let factor = |value: f64, change: f64| {
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let steps = counted.len() as f64 - 1.0;
        let average = if steps > 0.0 { seconds(last - first) / steps } else { 0.0 };
        let clip = |gap: f64| if gap >= average * 1.1 { average / 2.0 } else { gap };
        let sampled = seconds(last - started.unwrap_or(first));
        let mut left = if started.is_some() { 0.0 } else { clip(seconds(first - w.start)) };
        if rule.counter && started.is_none() && change > 0.0 && value >= 0.0 {
            left = f64::min(left, sampled * (value / change));
        }
        let right = clip(seconds(w.end - last));
        let factor = if sampled == 0.0 { 1.0 } else { (sampled + left + right) / sampled };
        if rule.per_second { factor / w.range_seconds() } else { factor }
    };
    if counted.len() == 1 && started.is_none() {
        return NOTHING;
    }
    if !w.ts.is_empty() {
        add_overlap(overlap, findings);
        let lost = (1..w.vs.len()).filter(|i| rule.counter && (w.vs[*i] < w.vs[i - 1] || by_start[*i]));
        let mut change = lost.fold(w.vs[w.vs.len() - 1] - w.vs[0], |sum, i| sum + w.vs[i - 1]);
        change += if started.is_some() { w.vs[0] } else { 0.0 };
        return Sample::Float(change * factor(w.vs[0], change));
    }
    answer(histogram_reference(w, rule, &by_start, started.is_some(), findings).map(|mut h| {
        add_overlap(overlap, findings);
        h.mul(factor(w.histograms[0].1.count, h.count));
        h
    }))
}

/// The change of histograms before extrapolation: first all are reduced to one resolution.
fn histogram_reference(
    w: &Window,
    rule: RateKind,
    by_start: &[bool],
    started: bool,
    findings: &mut Findings,
) -> Option<NativeHistogram> {
    let samples: Vec<&NativeHistogram> = w.histograms.iter().map(|h: &TimedHistogram| &*h.1).collect();
    if samples.len() == 1 {
        return started.then(|| samples[0].clone());
    }
    let last = samples.len() - 1;
    let forget = rule.counter && (by_start[1] || samples[1].detect_reset(samples[0]));
    let empty = NativeHistogram {
        schema: samples[1].schema,
        bounds: samples[1].bounds.clone(),
        ..NativeHistogram::default()
    };
    let mut used = samples.clone();
    if forget {
        used[0] = &empty;
    }
    let gauge = |h: &&NativeHistogram| h.hint == ResetHint::Gauge;
    let ends = used[0].is_custom() != used[last].is_custom();
    let between = rule.counter && used.iter().any(|h| h.is_custom() != used[0].is_custom());
    if ends || between {
        findings.add(Finding::MixedSchemas);
        if ends && rule.counter && (gauge(&samples[0]) || gauge(&samples[last])) {
            findings.add(Finding::NotACounter);
        }
        return None;
    }
    let kind =
        if rule.counter { samples.iter().any(gauge) } else { !gauge(&samples[0]) || !gauge(&samples[last]) };
    if kind {
        findings.add(if rule.counter { Finding::NotACounter } else { Finding::NotAGauge });
    }
    let looked_at: Vec<i32> = if rule.counter {
        used.iter().map(|h| h.schema).collect()
    } else {
        vec![used[0].schema, used[last].schema]
    };
    let schema = looked_at.into_iter().min()?;
    let mut result = used[last].to_schema(schema).ok()?;
    minus(&mut result, used[0], findings)?;
    for i in 1..=last {
        if rule.counter && (by_start[i] || used[i].detect_reset(used[i - 1])) {
            plus(&mut result, used[i - 1], findings)?;
        }
    }
    result.hint = ResetHint::Gauge;
    result.compact();
    if started {
        plus(&mut result, samples[0], findings)?;
    }
    Some(result)
}
