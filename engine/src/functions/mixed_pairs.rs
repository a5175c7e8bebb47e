//! `irate`, `idelta`, `changes` and `resets` of windows with native histograms or start timestamps.
//! They use adjacent samples of any kind.

use super::Window;
use super::extended::anchored;
use super::findings::{Finding, Findings};
use super::mixed_rate::{NOTHING, minus};
use super::start_timestamps::StartedSample;
use super::window::WindowSample;
use crate::types::histogram_column::Sample;
use std::sync::Arc;
use storage::model::NativeHistogram;
use storage::model::histogram::ResetHint;

pub(super) fn irate(w: &Window, findings: &mut Findings) -> Sample {
    instant(w, true, findings)
}

pub(super) fn idelta(w: &Window, findings: &mut Findings) -> Sample {
    instant(w, false, findings)
}

/// The result of the last two samples, if both are of one kind.
fn instant(w: &Window, counter: bool, findings: &mut Findings) -> Sample {
    let mut newest = w.merged().rev();
    let (Some(now), Some(before)) = (newest.next(), newest.next()) else { return NOTHING };
    // Stored samples have different times. As in Prometheus, a window that breaks this has no
    // value.
    if now.t() == before.t() {
        return NOTHING;
    }
    let seconds = (now.t() - before.t()) as f64 / 1000.0;
    let by_start = counter && StartedSample::at(w, now.t()).reset_since(StartedSample::at(w, before.t()));
    match (before, now) {
        (WindowSample::Float(_, v0), WindowSample::Float(_, v1)) => {
            let change = if counter && (v1 < v0 || by_start) { v1 } else { v1 - v0 };
            Sample::Float(if counter { change / seconds } else { change })
        }
        (WindowSample::Histogram(_, h0), WindowSample::Histogram(_, h1)) => {
            let Some(mut change) = histogram_change(h0, h1, counter, by_start, findings) else {
                return NOTHING;
            };
            if counter {
                change.div(seconds);
            }
            Sample::Histogram(Arc::new(change))
        }
        _ => {
            findings.add(Finding::MixedKinds);
            NOTHING
        }
    }
}

fn histogram_change(
    before: &NativeHistogram,
    now: &NativeHistogram,
    counter: bool,
    by_start: bool,
    findings: &mut Findings,
) -> Option<NativeHistogram> {
    let gauges = [before, now].map(|h| h.hint == ResetHint::Gauge);
    if counter && gauges.contains(&true) {
        findings.add(Finding::NotACounter);
    }
    if !counter && gauges.contains(&false) {
        findings.add(Finding::NotAGauge);
    }
    let mut change = now.clone();
    // After a reset the new histogram is the increase: nothing is subtracted.
    if !counter || !(by_start || now.detect_reset(before)) {
        minus(&mut change, before, findings)?;
    }
    change.hint = ResetHint::Gauge;
    change.compact();
    Some(change)
}

pub(super) fn changes(w: &Window, _: &mut Findings) -> Sample {
    count_pairs(w, |_, before, now| match (before, now) {
        (WindowSample::Float(_, a), WindowSample::Float(_, b)) => a != b && !(a.is_nan() && b.is_nan()),
        (WindowSample::Histogram(_, a), WindowSample::Histogram(_, b)) => !a.equals(b),
        _ => true,
    })
}

pub(super) fn resets(w: &Window, _: &mut Findings) -> Sample {
    count_pairs(w, |w, before, now| {
        let by_start = || StartedSample::at(w, now.t()).reset_since(StartedSample::at(w, before.t()));
        match (before, now) {
            (WindowSample::Float(_, a), WindowSample::Float(_, b)) => b < a || by_start(),
            (WindowSample::Histogram(_, a), WindowSample::Histogram(_, b)) => by_start() || b.detect_reset(a),
            _ => true,
        }
    })
}

/// How many samples differ from the previous one; in an anchored window from the anchor on.
fn count_pairs(w: &Window, differ: impl Fn(&Window, WindowSample, WindowSample) -> bool) -> Sample {
    let Some(w) = anchored(w) else { return NOTHING };
    let pairs = w.merged().zip(w.merged().skip(1));
    Sample::Float(pairs.filter(|(before, now)| differ(&w, *before, *now)).count() as f64)
}

/// The samples that count: in an anchored window those after the left edge, and the one before it.
fn counting(w: &Window) -> Vec<(i64, Option<f64>, Option<NativeHistogram>)> {
    let all = w.merged().map(|p| match p {
        WindowSample::Float(t, v) => (t, Some(v), None),
        WindowSample::Histogram(t, h) => (t, None, Some(NativeHistogram::clone(h))),
    });
    let mut all: Vec<_> = all.collect();
    if w.extension.is_some() {
        if all.iter().all(|(t, ..)| *t <= w.start) {
            return Vec::new();
        }
        while all.len() > 1 && all[1].0 <= w.start {
            all.remove(0);
        }
    }
    all
}

pub(super) fn changes_reference(w: &Window, _: &mut Findings) -> Sample {
    let all = counting(w);
    let mut n = 0;
    for i in 1..all.len() {
        n += match (&all[i - 1], &all[i]) {
            ((_, Some(a), _), (_, Some(b), _)) => u32::from(!(a == b || (a.is_nan() && b.is_nan()))),
            ((_, _, Some(a)), (_, _, Some(b))) => u32::from(!a.equals(b)),
            _ => 1,
        };
    }
    if all.is_empty() { NOTHING } else { Sample::Float(f64::from(n)) }
}

pub(super) fn resets_reference(w: &Window, _: &mut Findings) -> Sample {
    let all = counting(w);
    let mut n = 0;
    for i in 1..all.len() {
        let starts = [&all[i - 1], &all[i]].map(|(t, ..)| StartedSample::at(w, *t));
        let fell = match (&all[i - 1], &all[i]) {
            ((_, Some(a), _), (_, Some(b), _)) => b < a,
            ((_, _, Some(a)), (_, _, Some(b))) => b.detect_reset(a),
            _ => true,
        };
        n += u32::from(fell || starts[1].reset_since(starts[0]));
    }
    if all.is_empty() { NOTHING } else { Sample::Float(f64::from(n)) }
}

pub(super) fn irate_reference(w: &Window, findings: &mut Findings) -> Sample {
    instant_reference(w, true, findings)
}

pub(super) fn idelta_reference(w: &Window, findings: &mut Findings) -> Sample {
    instant_reference(w, false, findings)
}

fn instant_reference(w: &Window, counter: bool, findings: &mut Findings) -> Sample {
    let all = counting(w);
    let [.., (t0, v0, h0), (t1, v1, h1)] = &all[..] else { return NOTHING };
    let seconds = (t1 - t0) as f64 / 1000.0;
    let reset = StartedSample::at(w, *t1).reset_since(StartedSample::at(w, *t0));
    if let (Some(v0), Some(v1)) = (v0, v1) {
        let gauge = v1 - v0;
        let counted = if v1 < v0 || reset { *v1 } else { gauge } / seconds;
        return Sample::Float(if counter { counted } else { gauge });
    }
    let (Some(h0), Some(h1)) = (h0, h1) else {
        findings.add(Finding::MixedKinds);
        return NOTHING;
    };
    let number = [h0, h1].iter().filter(|h| h.hint == ResetHint::Gauge).count();
    match (counter, number) {
        (true, 1 | 2) => findings.add(Finding::NotACounter),
        (false, 0 | 1) => findings.add(Finding::NotAGauge),
        _ => {}
    }
    let mut result = h1.clone();
    if !(counter && (reset || h1.detect_reset(h0))) && minus(&mut result, h0, findings).is_none() {
        return NOTHING;
    }
    result.hint = ResetHint::Gauge;
    () = result.compact();
    if counter {
        result.div(seconds);
    }
    Sample::Histogram(Arc::new(result))
}
