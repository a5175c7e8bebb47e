//! Compares values with the expected ones: numbers with a relative tolerance, histograms bucket by
//! bucket.

use super::answer::{TestPoint, TestPoints, TestValue};
use super::expectation::{Expectation, ExpectedResult};
use super::script::{EvalRange, EvalTime};
use crate::HistogramLiteral;
use crate::series::{SequenceValue, SeriesDescription};
use storage::model::Labels;
use storage::model::histogram::{Buckets, NativeHistogram};
use storage::model::value::is_stale;

/// The relative difference up to which two values are equal.
const TOLERANCE: f64 = 1e-6;

/// Whether `value` is the result that `wanted` has for a query at `when`.
pub(super) fn fits(wanted: &Expectation, when: EvalTime, value: &TestValue) -> bool {
    match (&wanted.answer, value) {
        (ExpectedResult::Text(want), TestValue::Text(got)) => want == got,
        (ExpectedResult::Scalar(want), TestValue::Scalar(got)) => same(*want, *got),
        (ExpectedResult::Series(want), TestValue::Vector(got)) => vector(want, got, wanted.ordered),
        (ExpectedResult::Series(want), TestValue::Matrix(got)) => match (wanted.matrix, when) {
            (Some(grid), _) | (None, EvalTime::Range(grid)) => !wanted.ordered && matrix(want, got, grid),
            // Without expected times, only an empty result can be expected.
            (None, EvalTime::At(_)) => want.is_empty() && got.is_empty(),
        },
        _ => false,
    }
}

/// Whether the series of a range vector are sorted by labels, as they must be.
pub(super) fn is_sorted(value: &TestValue) -> bool {
    match value {
        TestValue::Matrix(series) => series.is_sorted_by(|a, b| a.0 <= b.0),
        _ => true,
    }
}

fn vector(want: &[SeriesDescription], got: &[(Labels, TestPoint)], ordered: bool) -> bool {
    let mut want: Vec<(&Labels, &SequenceValue)> =
        want.iter().filter_map(|s| s.values.first().map(|point| (&s.labels, point))).collect();
    let mut got: Vec<(&Labels, &TestPoint)> = got.iter().map(|(labels, cell)| (labels, cell)).collect();
    if !ordered {
        want.sort_by(|a, b| a.0.cmp(b.0));
        got.sort_by(|a, b| a.0.cmp(b.0));
    }
    want.len() == got.len() && want.iter().zip(&got).all(|(w, g)| w.0 == g.0 && cell(w.1, g.1))
}

fn matrix(want: &[SeriesDescription], got: &[(Labels, TestPoints)], grid: EvalRange) -> bool {
    let mut want: Vec<&SeriesDescription> = want.iter().collect();
    want.sort_by(|a, b| a.labels.cmp(&b.labels));
    let one = |(want, (labels, got)): (&&SeriesDescription, &(Labels, TestPoints))| {
        let times = (0i64..).map(|i| grid.start + i * grid.step);
        let mut points = times.zip(&want.values).filter(|(_, point)| **point != SequenceValue::Gap);
        let mut equal = want.labels == *labels;
        for (t, found) in got {
            equal &= points.next().is_some_and(|(time, point)| time == *t && cell(point, found));
        }
        equal && points.next().is_none()
    };
    want.len() == got.len() && want.iter().zip(got).all(one)
}

fn cell(want: &SequenceValue, got: &TestPoint) -> bool {
    match (want, got) {
        (SequenceValue::Float(want), TestPoint::Float(got)) => same(*want, *got),
        (SequenceValue::Histogram(want), TestPoint::Histogram(got)) => same_histogram(want, got),
        _ => false,
    }
}

/// Equal within the tolerance; bucket positions must be equal exactly. The hint is compared if it
/// was written.
#[allow(clippy::float_cmp, reason = "bounds and thresholds are compared exactly")]
fn same_histogram(want: &HistogramLiteral, got: &NativeHistogram) -> bool {
    let HistogramLiteral { histogram: want, hint_written } = want;
    want.schema == got.schema
        && same(want.count, got.count)
        && same(want.sum, got.sum)
        && want.zero_threshold == got.zero_threshold
        && same(want.zero_count, got.zero_count)
        && (!want.is_custom() || want.bounds == got.bounds)
        && same_buckets(&want.positive, &got.positive)
        && same_buckets(&want.negative, &got.negative)
        && (!hint_written || want.hint == got.hint)
}

fn same_buckets(want: &Buckets, got: &Buckets) -> bool {
    let want = filled(want);
    let got = filled(got);
    want.len() == got.len() && want.iter().zip(&got).all(|(a, b)| a.0 == b.0 && same(a.1, b.1))
}

/// Index and count of the buckets that are not empty; the layout of empty buckets is irrelevant.
fn filled(buckets: &Buckets) -> Vec<(i64, f64)> {
    let mut index = 0i64;
    let mut indexes = Vec::with_capacity(buckets.counts.len());
    for span in &buckets.spans {
        index += i64::from(span.offset);
        indexes.extend(index..index + i64::from(span.length));
        index += i64::from(span.length);
    }
    indexes.into_iter().zip(buckets.counts.iter().copied()).filter(|(_, count)| *count != 0.0).collect()
}

/// Equal within the tolerance. NaN equals NaN; the stale marker equals only itself.
#[allow(clippy::float_cmp, reason = "infinities and zeros are compared exactly")]
fn same(a: f64, b: f64) -> bool {
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let sum = a.abs() + b.abs();
    let diff = (a - b).abs();
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return diff < TOLERANCE * f64::MIN_POSITIVE;
    }
    diff / sum.min(f64::MAX) < TOLERANCE
}

#[cfg(test)]
mod tests {
    use super::{same, same_histogram};
    use crate::HistogramLiteral;
    use crate::series::{SequenceValue, parse_series};
    use storage::model::value::STALE;

    #[test]
    fn equality_is_relative() {
        assert!(same(1.0, 1.000_001) && !same(1.0, 1.000_01));
        assert!(same(f64::NAN, f64::NAN) && !same(f64::NAN, STALE) && same(STALE, STALE));
        assert!(!same(0.0, 1e-9) && same(0.0, -0.0));
        assert!(same(f64::INFINITY, f64::INFINITY) && !same(f64::INFINITY, 1.0));
    }

    fn literal(text: &str) -> HistogramLiteral {
        match parse_series(&format!("h {{{{{text}}}}}")).map(|s| s.values) {
            Ok(values) => match values.as_slice() {
                [SequenceValue::Histogram(literal)] => literal.clone(),
                other => panic!("{text}: {other:?}"),
            },
            Err(error) => panic!("{text}: {error}"),
        }
    }

    #[test]
    fn histograms_are_equal_wherever_their_empty_buckets_are() {
        let equal = |a: &str, b: &str| same_histogram(&literal(a), &literal(b).histogram);
        assert!(equal("count:3 buckets:[0 1 0 2 0]", "count:3.000001 buckets:[1 0 2] offset:1"));
        assert!(equal("sum:1", "sum:1 counter_reset_hint:gauge"));
        assert!(equal(
            "schema:-53 custom_values:[1 2] buckets:[0 1]",
            "schema:-53 custom_values:[1 2] buckets:[0 1 0]"
        ));
        for (a, b) in [
            ("count:3", "count:4"),
            ("sum:1", "sum:2"),
            ("schema:1", "schema:2"),
            ("z_bucket:1", "z_bucket:2"),
            ("z_bucket_w:1", "z_bucket_w:1.0000001"),
            ("buckets:[1]", "buckets:[1] offset:1"),
            ("buckets:[1]", "n_buckets:[1]"),
            ("buckets:[1 1]", "buckets:[1 2]"),
            ("schema:-53 custom_values:[1]", "schema:-53 custom_values:[2]"),
            ("counter_reset_hint:unknown", "counter_reset_hint:gauge"),
        ] {
            assert!(!equal(a, b), "{a} / {b}");
        }
    }
}
