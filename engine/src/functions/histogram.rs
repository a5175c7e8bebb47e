//! Classic histograms: quantiles and fractions out of cumulative buckets.
//!
//! The kernels take the buckets of one histogram as `(upper bound, cumulative count)` in any order and
//! rearrange them. Grouping series by their labels without `le`, and parsing `le` ([`parse_bound`]), is the
//! operator's work. Functions of native histograms stand in the table, but nothing computes them yet.

use super::{Function, Kernel, NAN, Special};
use crate::plan::Type::{Scalar, Text, Vector};

const fn native(name: &'static str) -> Function {
    Function::new(name, &[Vector], Vector, Kernel::Special(Special::NotYet))
}

/// `histogram_quantiles` takes up to ten quantiles.
const MORE_QUANTILES: usize = 9;

/// The family's entries.
pub(super) static ENTRIES: &[Function] = &[
    native("histogram_avg")
        .doc("Mean of the observations of native histograms.", "histogram_avg(rate(latency_seconds[5m]))"),
    native("histogram_count")
        .doc("Number of observations of native histograms.", "histogram_count(rate(latency_seconds[5m]))"),
    Function::new(
        "histogram_fraction",
        &[Scalar, Scalar, Vector],
        Vector,
        Kernel::Special(Special::HistogramFraction),
    )
    .doc(
        "Estimated share of the observations between two values.",
        "histogram_fraction(0, 0.2, sum by (le) (rate(latency_seconds_bucket[5m])))",
    ),
    Function::new(
        "histogram_quantile",
        &[Scalar, Vector],
        Vector,
        Kernel::Special(Special::HistogramQuantile),
    )
    .doc(
        "Estimated quantile of the observations.",
        "histogram_quantile(0.99, sum by (le) (rate(latency_seconds_bucket[5m])))",
    ),
    Function::new(
        "histogram_quantiles",
        &[Vector, Text, Scalar],
        Vector,
        Kernel::Special(Special::HistogramQuantiles),
    )
    .repeat(MORE_QUANTILES)
    .doc(
        "Estimated quantiles of the observations, each under its value of a label.",
        "histogram_quantiles(sum by (le) (rate(latency_seconds_bucket[5m])), \"quantile\", 0.5, 0.9, 0.99)",
    )
    .experimental(),
    native("histogram_stddev").doc(
        "Estimated standard deviation of the observations of native histograms.",
        "histogram_stddev(rate(latency_seconds[5m]))",
    ),
    native("histogram_stdvar").doc(
        "Estimated variance of the observations of native histograms.",
        "histogram_stdvar(rate(latency_seconds[5m]))",
    ),
    native("histogram_sum")
        .doc("Sum of the observations of native histograms.", "histogram_sum(rate(latency_seconds[5m]))"),
];

/// A bucket: its upper bound (inclusive), and how many observations are at most that.
pub type Bucket = (f64, f64);

/// A quantile, and what had to be done to the buckets.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Quantile {
    /// The estimate.
    pub value: f64,
    /// Counts fell where they may only rise, and were raised: worth an info annotation.
    pub fixed: Option<Fixed>,
}

/// Where counts fell, for the annotation's text.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Fixed {
    /// Smallest upper bound of a raised bucket.
    pub from: f64,
    /// Largest upper bound of a raised bucket.
    pub to: f64,
    /// By how much at most a count was too small.
    pub max_diff: f64,
}

/// The value of a label `le`; `None` if Go's `ParseFloat` refuses it.
pub fn parse_bound(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned.starts_with("0x") || unsigned.starts_with("0X") {
        let value = parse_hex(&unsigned[2..])?;
        return Some(if text.starts_with('-') { -value } else { value });
    }
    if unsigned.starts_with(['+', '-']) {
        return None;
    }
    let named = unsigned.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    // Go takes no sign before "nan", and an overflow to infinity is an error.
    if unsigned.eq_ignore_ascii_case("nan") && unsigned.len() != text.len() {
        return None;
    }
    text.parse::<f64>().ok().filter(|v| named || v.is_finite())
}

/// A hexadecimal float after its `0x`: digits with at most one point, and the mandatory exponent `p`.
fn parse_hex(text: &str) -> Option<f64> {
    let (digits, exponent) = text.split_once(['p', 'P'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.len() + fraction.len() == 0 || whole.len() + fraction.len() > 13 {
        return None; // beyond 52 bits rounding would matter; nobody writes such a bound
    }
    let mantissa = u64::from_str_radix(&format!("{whole}{fraction}"), 16).ok()?;
    let scale = exponent.checked_sub(4 * fraction.len() as i32)?;
    let value = mantissa as f64 * 2f64.powi(scale);
    value.is_finite().then_some(value)
}

/// Sorts by bound and adds up buckets of equal bounds; how many remain, or `None` without a bucket at +Inf.
fn prepare(buckets: &mut [Bucket]) -> Option<usize> {
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    if buckets.last()?.0 != f64::INFINITY {
        return None;
    }
    let mut last = 0;
    for i in 1..buckets.len() {
        if buckets[i].0 == buckets[last].0 {
            buckets[last].1 += buckets[i].1;
        } else {
            last += 1;
            buckets[last] = buckets[i];
        }
    }
    Some(last + 1)
}

/// Relative difference below which two counts are the same count computed in two ways.
const SAME_COUNT: f64 = 1e-12;

/// Whether they differ by no more than rounding; `a != b`.
fn nearly(a: f64, b: f64) -> bool {
    let (total, diff) = (a.abs() + b.abs(), (a - b).abs());
    if a.is_nan() && b.is_nan() {
        true
    } else if a == 0.0 || b == 0.0 || total < f64::MIN_POSITIVE {
        diff < SAME_COUNT * f64::MIN_POSITIVE
    } else {
        diff / total.min(f64::MAX) < SAME_COUNT
    }
}

/// Raises counts that are below an earlier one. Differences within rounding are levelled silently.
fn make_monotonic(buckets: &mut [Bucket]) -> Option<Fixed> {
    let mut fixed: Option<Fixed> = None;
    let mut kept = buckets[0].1;
    for (bound, count) in &mut buckets[1..] {
        if *count == kept {
            continue;
        }
        if nearly(kept, *count) {
            *count = kept;
        } else if *count < kept {
            let diff = kept - *count;
            let so_far = fixed.unwrap_or(Fixed { from: *bound, to: *bound, max_diff: diff });
            fixed = Some(Fixed { to: *bound, max_diff: so_far.max_diff.max(diff), ..so_far });
            *count = kept;
        } else {
            kept = *count;
        }
    }
    fixed
}

/// Quantile `q` of the observations in the buckets. NaN without a bucket at +Inf, without another one, or
/// without observations; infinite for `q` outside [0, 1].
pub fn bucket_quantile(q: f64, buckets: &mut [Bucket]) -> Quantile {
    let plain = |value| Quantile { value, fixed: None };
    if q.is_nan() {
        return plain(NAN);
    }
    if !(0.0..=1.0).contains(&q) {
        return plain(if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    let Some(n) = prepare(buckets) else { return plain(NAN) };
    let buckets = &mut buckets[..n];
    let fixed = make_monotonic(buckets);
    Quantile { value: interpolate(q, buckets), fixed }
}

/// The quantile in ascending buckets with rising counts, the last at +Inf.
fn interpolate(q: f64, buckets: &[Bucket]) -> f64 {
    let last = buckets.len() - 1;
    let total = buckets[last].1;
    if last == 0 || total == 0.0 {
        return NAN;
    }
    let mut rank = q * total;
    let at = buckets[..last].partition_point(|(_, count)| !(*count >= rank));
    let (end, mut count) = buckets[at];
    if at == last {
        return buckets[last - 1].0;
    }
    if at == 0 && end <= 0.0 {
        return end;
    }
    let mut start = 0.0;
    if at > 0 {
        start = buckets[at - 1].0;
        count -= buckets[at - 1].1;
        rank -= buckets[at - 1].1;
    }
    start + (end - start) * (rank / count)
}

/// Share of the observations in the buckets that lie between `lower` and `upper`. Counts are taken as they
/// are, rising or not. NaN without a bucket at +Inf, without observations, or for NaN limits.
pub fn bucket_fraction(lower: f64, upper: f64, buckets: &mut [Bucket]) -> f64 {
    let Some(n) = prepare(buckets) else { return NAN };
    let buckets = &buckets[..n];
    let total = buckets[n - 1].1;
    if total == 0.0 || lower.is_nan() || upper.is_nan() {
        return NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank_of(upper, buckets, total) - rank_of(lower, buckets, total)) / total
}

/// How many observations are at most `v`: interpolated inside the bucket, at most `total`.
fn rank_of(v: f64, buckets: &[Bucket], total: f64) -> f64 {
    let mut start = if buckets[0].0 > 0.0 { 0.0 } else { f64::NEG_INFINITY };
    let mut rank = 0.0;
    for (end, count) in buckets {
        if start >= v {
            break;
        }
        if *end > v {
            if start == f64::NEG_INFINITY {
                rank = *count;
            } else {
                rank += (count - rank) * (v - start) / (end - start);
            }
            break;
        }
        (start, rank) = (*end, *count);
    }
    if rank > total { total } else { rank }
}
