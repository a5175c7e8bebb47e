//! Whether an answer is the expected one.

use super::script::{Eval, Wanted};
use crate::promql::series::parse_series;
use engine::query::{Answer, Series, Value};
use std::fmt::Write;
use storage::model::value::is_stale;
use storage::model::{Labels, TimeMs};

/// Relative difference up to which two values are equal.
const TOLERANCE: f64 = 1e-6;

/// Whether `answer` is what `eval` wants; `Err`: the expectation cannot be read.
pub(super) fn fits(eval: &Eval, answer: &Answer) -> Result<bool, String> {
    let wanted = &eval.wanted;
    if let Some(text) = &wanted.string {
        return Ok(matches!(&answer.value, Value::Text(_, got) if got == text));
    }
    match &answer.value {
        Value::Scalar(_, got) => Ok(match wanted.lines.as_slice() {
            [line] => number(line).is_some_and(|want| same(want, *got)),
            _ => false,
        }),
        Value::Text(..) => Ok(false),
        Value::Vector(got) => {
            let got: Vec<Series> = got
                .iter()
                .map(|s| Series { labels: s.labels.clone(), points: vec![(eval.start, s.v)] })
                .collect();
            let want = series(wanted, eval.start, 1)?;
            Ok(if wanted.ordered { equal(&want, &got) } else { equal(&sorted(want), &sorted(got)) })
        }
        Value::Matrix(got) => {
            let (start, step) = wanted.matrix.unwrap_or((eval.start, eval.step.unwrap_or(1)));
            Ok(equal(&sorted(series(wanted, start, step)?), &sorted(got.clone())))
        }
    }
}

/// Whether a range query answers at `t` what an instant query answered there, bit by bit.
pub(super) fn agrees(instant: &Answer, range: &Answer, t: TimeMs) -> bool {
    let Value::Matrix(series) = &range.value else { return false };
    let at_t = series.iter().filter_map(|s| {
        s.points.iter().find(|point| point.0 == t).map(|point| (s.labels.clone(), point.1.to_bits()))
    });
    let got: Vec<(Labels, u64)> = at_t.collect();
    let mut want: Vec<(Labels, u64)> = match &instant.value {
        Value::Scalar(_, v) => vec![(Labels::default(), v.to_bits())],
        Value::Vector(samples) => samples.iter().map(|s| (s.labels.clone(), s.v.to_bits())).collect(),
        Value::Text(..) | Value::Matrix(_) => return true,
    };
    want.sort();
    want == got
}

fn number(line: &str) -> Option<f64> {
    let number = parse_series(&format!("x {line}")).ok()?;
    if line.contains(char::is_whitespace) { None } else { number.values.first().copied().flatten() }
}

/// The expected series; the first value is at `start`.
fn series(wanted: &Wanted, start: TimeMs, step: i64) -> Result<Vec<Series>, String> {
    let mut found = Vec::new();
    for line in &wanted.lines {
        let described = parse_series(line).map_err(|e| format!("{line:?}: {}", e.message()))?;
        let times = (0i64..).map(|i| start + i * step);
        let points: Vec<(TimeMs, f64)> =
            times.zip(described.values).filter_map(|(t, v)| v.map(|v| (t, v))).collect();
        if !points.is_empty() {
            found.push(Series { labels: described.labels, points });
        }
    }
    Ok(found)
}

fn sorted(mut series: Vec<Series>) -> Vec<Series> {
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    series
}

fn equal(want: &[Series], got: &[Series]) -> bool {
    let point = |(a, b): (&(TimeMs, f64), &(TimeMs, f64))| a.0 == b.0 && same(a.1, b.1);
    let one = |(a, b): (&Series, &Series)| {
        a.labels == b.labels && a.points.len() == b.points.len() && a.points.iter().zip(&b.points).all(point)
    };
    want.len() == got.len() && want.iter().zip(got).all(one)
}

/// Equal within the tolerance; NaN equals NaN, the stale marker only itself.
#[allow(clippy::float_cmp, reason = "infinities and zeros are compared exactly")]
fn same(a: f64, b: f64) -> bool {
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let (sum, diff) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return diff < TOLERANCE * f64::MIN_POSITIVE;
    }
    diff / sum.min(f64::MAX) < TOLERANCE
}

/// An answer in the notation of expectations, with times where they are not the evaluation's.
pub(super) fn print(answer: &Answer) -> String {
    let mut out = String::new();
    let mut line = |labels: &Labels, points: &[(TimeMs, f64)]| {
        let pairs: Vec<String> = labels.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
        let values: Vec<String> = points.iter().map(|(t, v)| format!("{v} @{t}")).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{{{}}} {}", pairs.join(", "), values.join("  "));
    };
    match &answer.value {
        Value::Scalar(_, v) => return format!("{v}"),
        Value::Text(_, text) => return format!("{text:?}"),
        Value::Vector(samples) => samples.iter().for_each(|s| line(&s.labels, &[(s.t, s.v)])),
        Value::Matrix(series) => series.iter().for_each(|s| line(&s.labels, &s.points)),
    }
    if out.is_empty() { "nothing".to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use super::same;
    use storage::model::value::STALE;

    #[test]
    fn equality_is_relative() {
        assert!(same(1.0, 1.000_001) && !same(1.0, 1.000_01));
        assert!(same(f64::NAN, f64::NAN) && !same(f64::NAN, STALE) && same(STALE, STALE));
        assert!(!same(0.0, 1e-9) && same(0.0, -0.0));
        assert!(same(f64::INFINITY, f64::INFINITY) && !same(f64::INFINITY, 1.0));
    }
}
