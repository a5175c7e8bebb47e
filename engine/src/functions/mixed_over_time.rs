//! `…_over_time` of windows with native histograms. Sums and means need samples of one kind; the
//! other functions accept both. Order statistics ignore histograms
//! ([`super::window::HistogramSupport::Ignored`]).

use super::Window;
use super::findings::{Finding, Findings};
use super::mixed_rate::{NOTHING, answer};
use super::window::WindowSample;
use crate::types::histogram_column::Sample;
use std::sync::Arc;
use storage::model::NativeHistogram;
use storage::model::histogram::{HistogramError, HistogramMean, HistogramSum, MergeConflicts};

/// The histograms of a window without floats.
fn only_histograms<'a>(
    w: &Window<'a>,
    findings: &mut Findings,
) -> Option<impl Iterator<Item = &'a NativeHistogram> + use<'a>> {
    // Prometheus gives no sum of both kinds, only a warning.
    if !w.ts.is_empty() {
        findings.add(Finding::MixedKinds);
        return None;
    }
    let histograms: &'a [_] = w.histograms;
    Some(histograms.iter().map(|(_, h): &(i64, Arc<NativeHistogram>)| &**h))
}

/// Adds all but the first; `None` for custom and exponential buckets.
fn add_all<'a>(
    rest: impl Iterator<Item = &'a NativeHistogram>,
    mut add: impl FnMut(&NativeHistogram) -> Result<MergeConflicts, HistogramError>,
    findings: &mut Findings,
) -> Option<()> {
    for h in rest {
        if add(h).is_err() {
            findings.add(Finding::MixedSchemas);
            return None;
        }
    }
    Some(())
}

fn report(findings: &mut Findings, collided: bool, reconciled: bool) {
    if collided {
        findings.add(Finding::ConflictingResets);
    }
    if reconciled {
        findings.add(Finding::ReconciledAggregate);
    }
}

pub(super) fn sum(w: &Window, findings: &mut Findings) -> Sample {
    let Some(mut all) = only_histograms(w, findings) else { return NOTHING };
    let Some(mut sum) = all.next().map(HistogramSum::from_first) else { return NOTHING };
    let Some(()) = add_all(all, |h| sum.add(h), findings) else { return NOTHING };
    // After all were added: Prometheus reports these once per window.
    report(findings, sum.hints_collided(), sum.bounds_reconciled());
    answer(Some(sum.value()))
}

pub(super) fn avg(w: &Window, findings: &mut Findings) -> Sample {
    let Some(mut all) = only_histograms(w, findings) else { return NOTHING };
    let Some(mut mean) = all.next().map(HistogramMean::from_first) else { return NOTHING };
    let Some(()) = add_all(all, |h| mean.add(h), findings) else { return NOTHING };
    report(findings, mean.hints_collided(), mean.bounds_reconciled());
    answer(Some(mean.value()))
}

pub(super) fn count(w: &Window, _: &mut Findings) -> Sample {
    Sample::Float(w.len() as f64)
}

pub(super) fn present(_: &Window, _: &mut Findings) -> Sample {
    Sample::Float(1.0)
}

fn sample(point: Option<WindowSample>) -> Sample {
    point.map_or(NOTHING, |p| p.sample())
}

fn time(point: Option<WindowSample>) -> Sample {
    point.map_or(NOTHING, |p| Sample::Float(p.t() as f64 / 1000.0))
}

pub(super) fn first(w: &Window, _: &mut Findings) -> Sample {
    sample(w.merged().next())
}

pub(super) fn last(w: &Window, _: &mut Findings) -> Sample {
    sample(w.merged().next_back())
}

pub(super) fn ts_of_first(w: &Window, _: &mut Findings) -> Sample {
    time(w.merged().next())
}

pub(super) fn ts_of_last(w: &Window, _: &mut Findings) -> Sample {
    time(w.merged().next_back())
}

/// All samples, in order of time.
fn points<'a>(w: &Window<'a>) -> Vec<WindowSample<'a>> {
    let floats = w.ts.iter().zip(w.vs).map(|(t, v)| WindowSample::Float(*t, *v));
    let mut all: Vec<_> =
        floats.chain(w.histograms.iter().map(|(t, h)| WindowSample::Histogram(*t, h))).collect();
    all.sort_by_key(WindowSample::t);
    all
}

pub(super) fn first_reference(w: &Window, _: &mut Findings) -> Sample {
    sample(points(w).into_iter().min_by_key(WindowSample::t))
}

pub(super) fn last_reference(w: &Window, _: &mut Findings) -> Sample {
    sample(points(w).into_iter().max_by_key(WindowSample::t))
}

pub(super) fn ts_of_first_reference(w: &Window, _: &mut Findings) -> Sample {
    time(points(w).into_iter().min_by_key(WindowSample::t))
}

pub(super) fn ts_of_last_reference(w: &Window, _: &mut Findings) -> Sample {
    time(points(w).into_iter().max_by_key(WindowSample::t))
}

pub(super) fn count_reference(w: &Window, _: &mut Findings) -> Sample {
    Sample::Float(points(w).iter().map(|_| 1.0).sum())
}

pub(super) fn present_reference(w: &Window, _: &mut Findings) -> Sample {
    Sample::Float(points(w).iter().map(|_| 1.0).fold(0.0, f64::max))
}

/// The histograms, if they can be summed; adds findings.
fn summands(w: &Window, findings: &mut Findings) -> Option<Vec<NativeHistogram>> {
    use storage::model::histogram::ResetHint::{NotReset, Reset};
    let all: Vec<NativeHistogram> = w.histograms.iter().map(|(_, h)| NativeHistogram::clone(h)).collect();
    let has = |hint| all.iter().any(|h| h.hint == hint);
    if !w.ts.is_empty() {
        findings.add(Finding::MixedKinds);
    } else if all.iter().any(|h| h.is_custom()) != all.iter().all(|h| h.is_custom()) {
        findings.add(Finding::MixedSchemas);
    } else {
        let mut bounds: Vec<Vec<u64>> = Vec::new();
        for h in &all {
            bounds.push(h.bounds.iter().filter(|_| h.is_custom()).map(|b| b.to_bits()).collect());
        }
        bounds.dedup();
        let differ = common_differ(&bounds);
        report(findings, has(Reset) && has(NotReset), differ);
        return Some(all);
    }
    None
}

/// Whether adding them one by one meets bounds that differ from the common ones so far.
fn common_differ(bounds: &[Vec<u64>]) -> bool {
    let Some((first, rest)) = bounds.split_first() else { return false };
    let mut common = first.clone();
    let mut differ = false;
    for other in rest {
        differ |= *other != common;
        common.retain(|b| other.contains(b));
    }
    differ
}

pub(super) fn sum_reference(w: &Window, findings: &mut Findings) -> Sample {
    let Some(all) = summands(w, findings) else { return NOTHING };
    let sum = all.split_first().map(|(first, rest)| {
        rest.iter().fold(HistogramSum::from_first(first), |mut sum, h| {
            let _ = sum.add(h);
            sum
        })
    });
    answer(sum.map(|sum| sum.value()))
}

pub(super) fn avg_reference(w: &Window, findings: &mut Findings) -> Sample {
    let Some(all) = summands(w, findings) else { return NOTHING };
    let mean = all.split_first().map(|(first, rest)| {
        rest.iter().fold(HistogramMean::from_first(first), |mut mean, h| {
            let _ = mean.add(h);
            mean
        })
    });
    answer(mean.map(|mean| mean.value()))
}
