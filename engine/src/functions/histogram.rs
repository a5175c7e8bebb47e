//! Classic histograms: quantiles and fractions from cumulative buckets.
//!
//! A kernel gets the buckets of one histogram as `(upper bound, cumulative count)`, in any order,
//! and sorts them in place. The operator groups series by their labels without `le`, and parses
//! `le`. The kernels for native histograms are in [`super::native`]; the entries of both are here.

use super::{Function, Kernel, NAN, OperatorFunction, native};
use crate::types::ValueType::{Scalar, Text, Vector};
use storage::model::NativeHistogram;

const fn per_histogram(name: &'static str, kernel: fn(&NativeHistogram) -> f64) -> Function {
    Function::new(name, &[Vector], Vector, Kernel::Histogram(kernel))
}

/// `histogram_quantiles` accepts up to ten quantiles.
const MORE_QUANTILES: usize = 9;

/// The entries of these functions in the table of functions.
pub(super) static ENTRIES: &[Function] = &[
    per_histogram("histogram_avg", native::mean)
        .counts_only()
        .doc("Mean of the observations of native histograms.", "histogram_avg(rate(latency_seconds[5m]))"),
    per_histogram("histogram_count", native::count)
        .counts_only()
        .doc("Number of observations of native histograms.", "histogram_count(rate(latency_seconds[5m]))"),
    Function::new(
        "histogram_fraction",
        &[Scalar, Scalar, Vector],
        Vector,
        Kernel::Operator(OperatorFunction::HistogramFraction),
    )
    .doc(
        "Estimated share of the observations between two values.",
        "histogram_fraction(0, 0.2, sum by (le) (rate(latency_seconds_bucket[5m])))",
    ),
    Function::new(
        "histogram_quantile",
        &[Scalar, Vector],
        Vector,
        Kernel::Operator(OperatorFunction::HistogramQuantile),
    )
    .doc(
        "Estimated quantile of the observations.",
        "histogram_quantile(0.99, sum by (le) (rate(latency_seconds_bucket[5m])))",
    ),
    Function::new(
        "histogram_quantiles",
        &[Vector, Text, Scalar],
        Vector,
        Kernel::Operator(OperatorFunction::HistogramQuantiles),
    )
    .repeat(MORE_QUANTILES)
    .doc(
        "Estimated quantiles of the observations, each under its value of a label.",
        "histogram_quantiles(sum by (le) (rate(latency_seconds_bucket[5m])), \"quantile\", 0.5, 0.9, 0.99)",
    )
    .experimental(),
    per_histogram("histogram_stddev", native::standard_deviation).doc(
        "Estimated standard deviation of the observations of native histograms.",
        "histogram_stddev(rate(latency_seconds[5m]))",
    ),
    per_histogram("histogram_stdvar", native::variance).doc(
        "Estimated variance of the observations of native histograms.",
        "histogram_stdvar(rate(latency_seconds[5m]))",
    ),
    per_histogram("histogram_sum", native::sum)
        .counts_only()
        .doc("Sum of the observations of native histograms.", "histogram_sum(rate(latency_seconds[5m]))"),
];

/// A bucket: its upper bound (inclusive), and the number of observations up to it.
pub type ClassicBucket = (f64, f64);

/// A quantile, and how the buckets had to be repaired.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct ClassicQuantile {
    /// The interpolated quantile; NaN without observations.
    pub value: f64,
    /// Counts decreased and were raised, which is an info annotation.
    pub repaired: Option<RepairedBuckets>,
}

/// Where counts decreased, for the text of the annotation.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct RepairedBuckets {
    /// Smallest upper bound of a raised bucket.
    pub from: f64,
    /// Largest upper bound of a raised bucket.
    pub to: f64,
    /// The largest difference by which a count was raised.
    pub max_diff: f64,
}

/// Sorts by bound, and adds buckets with equal bounds. Returns how many remain, or `None` without a
/// bucket at +Inf.
fn prepare(buckets: &mut [ClassicBucket]) -> Option<usize> {
    // `total_cmp`, because `le` may be parsed to NaN, and a comparison sort needs a total order.
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Without the total there is no rank.
    if buckets.last()?.0 != f64::INFINITY {
        return None;
    }
    let mut last = 0;
    for i in 1..buckets.len() {
        // `le="1"` and `le="1.0"` are the same bucket, written by two versions of a client.
        if buckets[i].0 == buckets[last].0 {
            buckets[last].1 += buckets[i].1;
        } else {
            last += 1;
            buckets[last] = buckets[i];
        }
    }
    Some(last + 1)
}

/// Two counts with a smaller relative difference are the same count, computed in two ways.
const SAME_COUNT: f64 = 1e-12;

/// Whether two different numbers differ only by rounding.
fn nearly(a: f64, b: f64) -> bool {
    let total = a.abs() + b.abs();
    let diff = (a - b).abs();
    if a.is_nan() && b.is_nan() {
        true
    } else if a == 0.0 || b == 0.0 || total < f64::MIN_POSITIVE {
        diff < SAME_COUNT * f64::MIN_POSITIVE
    } else {
        diff / total.min(f64::MAX) < SAME_COUNT
    }
}

/// Raises counts that are below an earlier one. Differences by rounding are not reported.
fn make_monotonic(buckets: &mut [ClassicBucket]) -> Option<RepairedBuckets> {
    let mut repaired: Option<RepairedBuckets> = None;
    let mut highest = buckets[0].1;
    for (bound, count) in &mut buckets[1..] {
        if *count == highest {
            continue;
        }
        if nearly(highest, *count) {
            *count = highest;
        } else if *count < highest {
            let diff = highest - *count;
            let so_far = repaired.unwrap_or(RepairedBuckets { from: *bound, to: *bound, max_diff: diff });
            repaired = Some(RepairedBuckets { to: *bound, max_diff: so_far.max_diff.max(diff), ..so_far });
            *count = highest;
        } else {
            highest = *count;
        }
    }
    repaired
}

/// Quantile `q` of the observations in the buckets. NaN without a bucket at +Inf, without another
/// bucket, or without observations; infinite for `q` outside [0, 1].
pub fn bucket_quantile(q: f64, buckets: &mut [ClassicBucket]) -> ClassicQuantile {
    let plain = |value| ClassicQuantile { value, repaired: None };
    if q.is_nan() {
        return plain(NAN);
    }
    if !(0.0..=1.0).contains(&q) {
        return plain(if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    // After the checks of `q`: an impossible quantile has its answer without any bucket.
    let Some(n) = prepare(buckets) else { return plain(NAN) };
    let buckets = &mut buckets[..n];
    let repaired = make_monotonic(buckets);
    ClassicQuantile { value: interpolate(q, buckets), repaired }
}

/// The quantile in ascending buckets with increasing counts, the last at +Inf.
fn interpolate(q: f64, buckets: &[ClassicBucket]) -> f64 {
    let last = buckets.len() - 1;
    let total = buckets[last].1;
    if last == 0 || total == 0.0 {
        return NAN;
    }
    let mut rank = q * total;
    let reaches = |(_, count): &ClassicBucket| *count >= rank; // never with NaN: then it is the last bucket
    let at = buckets[..last].partition_point(|bucket| !reaches(bucket));
    let (end, mut count) = buckets[at];
    // The last bucket has no upper end to interpolate to. Its lower bound is the best that can be
    // said.
    if at == last {
        return buckets[last - 1].0;
    }
    // Below the first bound there is nothing to interpolate from, if zero is not below it.
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

/// The fraction of the observations between `lower` and `upper`. Counts need not increase. NaN
/// without a bucket at +Inf, without observations, or for NaN limits.
pub fn bucket_fraction(lower: f64, upper: f64, buckets: &mut [ClassicBucket]) -> f64 {
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

/// The number of observations up to `v`: interpolated inside the bucket, at most `total`.
fn rank_of(v: f64, buckets: &[ClassicBucket], total: f64) -> f64 {
    // Observations of a metric with only positive bounds are taken to be positive.
    let mut start = if buckets[0].0 > 0.0 { 0.0 } else { f64::NEG_INFINITY };
    let mut rank = 0.0;
    for (end, count) in buckets {
        if start >= v {
            break;
        }
        if *end > v {
            // No interpolation in an infinite bucket: all of it counts.
            if start == f64::NEG_INFINITY {
                rank = *count;
            } else {
                rank += (count - rank) * (v - start) / (end - start);
            }
            break;
        }
        start = *end;
        rank = *count;
    }
    // Counts that fall may give a rank above the total.
    if rank > total { total } else { rank }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::testing::same;
    use proptest::prelude::*;

    const INF: f64 = f64::INFINITY;

    fn quantile(q: f64, buckets: &[ClassicBucket]) -> f64 {
        bucket_quantile(q, &mut buckets.to_vec()).value
    }

    #[test]
    fn quantiles() {
        let plain = &[(0.1, 10.0), (0.2, 30.0), (1.0, 40.0), (INF, 50.0)][..];
        let negative = &[(-0.2, 1.0), (-0.1, 2.0), (INF, 3.0)][..];
        let split = &[(INF, 4.0), (0.2, 1.0), (0.1, 1.0), (0.2, 1.0)][..]; // two spellings of 0.2
        for (q, buckets, want) in [
            (0.5, plain, 0.1 + (0.2 - 0.1) * (15.0 / 20.0)),
            (0.1, plain, 0.05),
            (0.2, plain, 0.1),
            (0.8, plain, 1.0),
            (0.99, plain, 1.0), // inside the last bucket: its lower bound
            (0.0, plain, 0.0),
            (0.1, negative, -0.2), // below the first bound, which is not positive
            (0.5, negative, -0.2 + 0.1 * 0.5),
            (0.5, split, 0.2),
            (-1.0, plain, -INF),
            (2.0, plain, INF),
            (f64::NAN, plain, NAN),
            (0.5, &[(INF, 5.0)], NAN),
            (0.5, &[(1.0, 5.0)], NAN), // nothing at +Inf
            (0.5, &[(1.0, 0.0), (INF, 0.0)], NAN),
            (0.5, &[], NAN),
            (0.0, &[(1.0, 0.0), (INF, 5.0)], NAN), // 0/0 in an empty first bucket
        ] {
            let got = quantile(q, buckets);
            assert!(same(got, want), "quantile({q}, {buckets:?}) = {got}, want {want}");
        }
    }

    #[test]
    fn falling_counts_are_raised_and_reported() {
        let falling = [(0.1, 2.0), (1.0, 1.0), (10.0, 5.0), (100.0, 4.0), (1000.0, 9.0), (INF, 8.0)];
        for (q, want) in [(0.01, 0.0045), (0.5, 8.5), (0.99, 979.75)] {
            let got = bucket_quantile(q, &mut falling.to_vec());
            assert!((got.value / want - 1.0).abs() < 1e-12, "{q}: {}", got.value);
            assert_eq!(got.repaired, Some(RepairedBuckets { from: 1.0, to: INF, max_diff: 1.0 }));
        }
        // Differences by rounding are levelled and not reported.
        let mut noisy = [(1.0, 100.0), (2.0, 100.0 - 1e-11), (INF, 200.0)];
        assert_eq!(bucket_quantile(0.5, &mut noisy).repaired, None);
        assert_eq!(noisy[1].1, 100.0);
        assert!(bucket_quantile(0.5, &mut [(1.0, 1e-20), (2.0, 0.0), (INF, 1.0)]).repaired.is_some());
    }

    #[test]
    fn fractions() {
        let positive = &[(1.0, 1.0), (2.0, 3.0), (3.0, 6.0), (INF, 100.0)][..];
        let negative = &[(-3.0, 10.0), (-2.0, 12.0), (-1.0, 15.0), (INF, 100.0)][..];
        let zero = &[(-2.0, 5.0), (-1.0, 10.0), (0.0, 15.0), (1.0, 20.0), (INF, 100.0)][..];
        for (lower, upper, buckets, want) in [
            (0.0, 1.5, positive, 0.02),
            (-4.0, -2.0, negative, 0.02),
            (-INF, -1.5, negative, 0.135),
            (-INF, INF, positive, 1.0),
            (-INF, INF, negative, 1.0),
            (4.0, 5.0, positive, 0.0),
            (2.0, 5.0, positive, 0.03),
            (400.0, INF, positive, 0.94),
            (2.0, 2.0, positive, 0.0),
            (3.0, 2.0, positive, 0.0),
            (-1.0, 1.0, zero, 0.1),
            (NAN, 1.0, zero, NAN),
            (0.0, NAN, zero, NAN),
            (0.0, 1.0, &[(1.0, 0.0), (INF, 0.0)], NAN),
            (0.0, 1.0, &[(1.0, 5.0)], NAN),
            (0.0, 1.0, &[], NAN),
        ] {
            let got = bucket_fraction(lower, upper, &mut buckets.to_vec());
            assert!(
                same(got, want) || (got - want).abs() < 1e-15,
                "fraction({lower}, {upper}, {buckets:?}) = {got}"
            );
        }
    }

    /// Iterates over every bucket of a sorted copy.
    fn quantile_reference(q: f64, buckets: &[ClassicBucket]) -> f64 {
        let mut bounds: Vec<f64> = buckets.iter().map(|b| b.0).collect();
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        let count_at = |bound: f64| buckets.iter().filter(|b| b.0 == bound).map(|b| b.1).sum::<f64>();
        let mut highest = 0.0;
        let counts: Vec<f64> = bounds
            .iter()
            .map(|b| {
                highest = count_at(*b).max(highest);
                highest
            })
            .collect();
        let total = counts[counts.len() - 1];
        if bounds.len() < 2 || total == 0.0 {
            return NAN;
        }
        let rank = q * total;
        match counts.iter().position(|c| *c >= rank) {
            Some(0) if bounds.len() > 1 && bounds[0] <= 0.0 => bounds[0],
            Some(0) => 0.0 + bounds[0] * (rank / counts[0]),
            Some(at) if at + 1 < bounds.len() => {
                let low = bounds[at - 1];
                let high = bounds[at];
                low + (high - low) * ((rank - counts[at - 1]) / (counts[at] - counts[at - 1]))
            }
            _ => bounds[bounds.len() - 2],
        }
    }

    proptest! {
        #[test]
        fn quantiles_equal_the_reference(
            mut buckets in prop::collection::vec((-3i32..12, 0u32..100), 0..20)
                .prop_map(|b| b.into_iter().map(|(le, n)| (f64::from(le), f64::from(n))).collect::<Vec<_>>()),
            at_inf in 0u32..200,
            q in 0.0..=1.0f64,
        ) {
            buckets.push((INF, f64::from(at_inf)));
            let got = quantile(q, &buckets);
            let want = quantile_reference(q, &buckets);
            prop_assert!(same(got, want), "{got} {want}");
        }
    }
}
