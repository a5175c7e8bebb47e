//! The texts of all annotations (warnings and infos), as in Prometheus but without its prefix and
//! the position, which front ends add. Numbers are formatted as with Go's `%g`, names as with its
//! `%q`. See [`crate::annotations`] for the types.

use crate::annotations::{AnnotationTarget, Occurrences, Severity, StepAnnotation};
use crate::types::go_text::quote;
use storage::model::TimeMs;
use storage::model::number::{general, go_exponent};

/// A warning about `target`.
fn warning(target: AnnotationTarget, text: impl Into<String>) -> StepAnnotation {
    StepAnnotation { level: Severity::Warning, text: text.into().into(), target, extent: Occurrences::Once }
}

/// An info about `target`.
fn info(target: AnnotationTarget, text: impl Into<String>) -> StepAnnotation {
    StepAnnotation { level: Severity::Info, text: text.into().into(), target, extent: Occurrences::Once }
}

/// The text with the name of its metric, if there is one.
fn of_metric(text: &str, metric: &str) -> String {
    if metric.is_empty() { text.to_owned() } else { format!("{text} for metric name {}", quote(metric)) }
}

/// A quantile outside of 0 to 1.
pub fn invalid_quantile(target: AnnotationTarget, q: f64) -> StepAnnotation {
    warning(target, format!("quantile value should be between 0 and 1, got {}", general(q)))
}

/// A quantile outside of 0 to 1 in an aggregation: the text names the highest and the lowest of all
/// steps.
pub fn invalid_quantile_of_steps(target: AnnotationTarget, q: f64) -> StepAnnotation {
    let extent = Occurrences::Parameter { low: q, high: q, bounds: [0.0, 1.0], capped: false };
    StepAnnotation { extent, ..warning(target, "quantile value should be between 0 and 1, got ") }
}

/// A ratio outside of -1 to 1.
pub fn invalid_ratio(target: AnnotationTarget, got: f64) -> StepAnnotation {
    let extent = Occurrences::Parameter { low: got, high: got, bounds: [-1.0, 1.0], capped: true };
    StepAnnotation { extent, ..warning(target, "ratio value should be between -1 and 1, got ") }
}

/// A bucket without a valid bound.
pub fn bad_bucket_label(target: AnnotationTarget, metric: &str, le: &str) -> StepAnnotation {
    let text = format!("bucket label \"le\" is missing or has a malformed value of {}", quote(le));
    warning(target, of_metric(&text, metric))
}

/// Floats and histograms in one window of a metric.
pub fn mixed_floats_histograms(target: AnnotationTarget, metric: &str) -> StepAnnotation {
    warning(target, format!("encountered a mix of histograms and floats for metric name {}", quote(metric)))
}

/// Floats and histograms in one group of an aggregation.
pub fn mixed_floats_histograms_in_aggregation(target: AnnotationTarget) -> StepAnnotation {
    warning(target, "encountered a mix of histograms and floats for aggregation")
}

/// Classic buckets and a native histogram with the same labels.
pub fn mixed_classic_native(target: AnnotationTarget, metric: &str) -> StepAnnotation {
    warning(target, of_metric("vector contains a mix of classic and native histograms", metric))
}

/// A gauge histogram where a counter is expected.
pub fn not_a_counter(target: AnnotationTarget, metric: &str) -> StepAnnotation {
    warning(target, format!("this native histogram metric is not a counter: {}", quote(metric)))
}

/// A counter histogram where a gauge is expected.
pub fn not_a_gauge(target: AnnotationTarget, metric: &str) -> StepAnnotation {
    warning(target, format!("this native histogram metric is not a gauge: {}", quote(metric)))
}

/// Exponential and custom buckets in one window or group.
pub fn mixed_bucket_schemas(target: AnnotationTarget, metric: &str) -> StepAnnotation {
    let text =
        "vector contains a mix of histograms with exponential and custom buckets schemas for metric name";
    warning(target, format!("{text} {}", quote(metric)))
}

/// Histograms that an operator cannot combine.
pub fn incompatible_buckets(target: AnnotationTarget, operator: &str) -> StepAnnotation {
    warning(target, format!("incompatible bucket layout encountered for binary operator {operator}"))
}

/// Sorting in a range query, where it has no effect.
pub fn sort_in_range_query(target: AnnotationTarget) -> StepAnnotation {
    warning(target, "sort is ineffective for range queries since results are always ordered by labels")
}

/// Histograms with the hints "reset" and "no reset" were combined; `during`: "addition",
/// "subtraction", "aggregation".
pub fn conflicting_resets(target: AnnotationTarget, during: &str) -> StepAnnotation {
    warning(target, format!("conflicting counter resets during histogram {during}"))
}

/// A start timestamp that is before the previous sample.
pub fn overlapping_start(target: AnnotationTarget, metric: &str) -> StepAnnotation {
    let text = "sample has start time that overlaps with previous sample timestamp for metric";
    StepAnnotation { extent: Occurrences::Times(1), ..warning(target, format!("{text} {}", quote(metric))) }
}

/// A rate of a metric whose name is not that of a counter.
pub fn possibly_no_counter(target: AnnotationTarget, metric: &str) -> StepAnnotation {
    let text = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket";
    info(target, format!("{text}: {}", quote(metric)))
}

/// A rate of a metric whose type is not counter or histogram.
pub fn typed_no_counter(target: AnnotationTarget, metric: &str, kind: &str) -> StepAnnotation {
    let text = "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\"";
    info(target, format!("{text}, got {}: {}", quote(kind), quote(metric)))
}

/// Cumulative bucket counts that decrease with rising bounds; they were repaired.
pub fn forced_monotonicity(
    target: AnnotationTarget,
    metric: &str,
    low: f64,
    high: f64,
    difference: f64,
    t: TimeMs,
) -> StepAnnotation {
    let text = "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
    let extent = Occurrences::Buckets { low, high, difference, samples: 1, from: t, to: t };
    StepAnnotation { extent, ..info(target, of_metric(text, metric)) }
}

/// Operands that an operator does not support; `left`, `right`: "float" or "histogram".
pub fn incompatible_types(
    target: AnnotationTarget,
    left: &str,
    operator: &str,
    right: &str,
) -> StepAnnotation {
    let text = "incompatible sample types encountered for binary operator";
    info(target, format!("{text} {}: {left} {operator} {right}", quote(operator)))
}

/// Histograms that an aggregation of floats ignored.
pub fn ignored_in_aggregation(target: AnnotationTarget, operator: &str) -> StepAnnotation {
    info(target, format!("ignored histogram in {operator} aggregation"))
}

/// Histograms that a function of floats ignored in a window.
pub fn ignored_in_window(target: AnnotationTarget, metric: &str) -> StepAnnotation {
    let text = "ignored histograms in a range containing both floats and histograms for metric name";
    info(target, format!("{text} {}", quote(metric)))
}

/// NaN observations made a quantile NaN.
pub fn quantile_is_nan(target: AnnotationTarget, metric: &str) -> StepAnnotation {
    info(target, of_metric("input to histogram_quantile has NaN observations, result is NaN", metric))
}

/// NaN observations made a quantile higher.
pub fn quantile_is_skewed(target: AnnotationTarget, metric: &str) -> StepAnnotation {
    info(
        target,
        of_metric("input to histogram_quantile has NaN observations, result is skewed higher", metric),
    )
}

/// NaN observations are not part of any fraction.
pub fn fraction_leaves_out_nan(target: AnnotationTarget, metric: &str) -> StepAnnotation {
    let text = "input to histogram_fraction has NaN observations, which are excluded from all fractions";
    info(target, of_metric(text, metric))
}

/// Custom buckets were reduced to common bounds; `during`: "addition", "subtraction",
/// "aggregation".
pub fn reconciled_bounds(target: AnnotationTarget, during: &str) -> StepAnnotation {
    info(target, format!("mismatched custom buckets were reconciled during {during}"))
}

/// A number as Go's `%.2g`.
pub fn two_digits(v: f64) -> String {
    if v == 0.0 || !v.is_finite() {
        return general(v);
    }
    let text = format!("{v:.1e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..2).contains(&exponent) {
        let decimals = usize::try_from(1 - exponent).unwrap_or(0);
        return trim_zeros(&format!("{v:.decimals$}"));
    }
    go_exponent(&format!("{}e{exponent}", trim_zeros(mantissa)))
}

fn trim_zeros(text: &str) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_go_does() {
        for (v, want) in
            [(1.5, "1.5"), (1e21, "1e+21"), (123456.5, "123456.5"), (1e6, "1e+06"), (0.00001, "1e-05")]
        {
            assert_eq!(general(v), want);
        }
        for (v, want) in
            [(0.123, "0.12"), (1.0, "1"), (12.0, "12"), (123.0, "1.2e+02"), (0.000012, "1.2e-05")]
        {
            assert_eq!(two_digits(v), want);
        }
    }

    #[test]
    fn metrics_are_named_where_they_are_known() {
        let text = |annotation: StepAnnotation| annotation.text.to_string();
        assert_eq!(
            text(bad_bucket_label(AnnotationTarget::Whole, "", "x")),
            "bucket label \"le\" is missing or has a malformed value of \"x\""
        );
        assert_eq!(
            text(mixed_classic_native(AnnotationTarget::Whole, "h")),
            "vector contains a mix of classic and native histograms for metric name \"h\""
        );
    }
}
