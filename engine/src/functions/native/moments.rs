//! Count, sum, mean and variance of one native histogram: the kernels of `histogram_count`,
//! `histogram_sum`, `histogram_avg`, `histogram_stdvar` and `histogram_stddev`.

use super::super::summation::Neumaier;
use storage::model::NativeHistogram;

/// Number of observations.
pub fn count(h: &NativeHistogram) -> f64 {
    h.count
}

/// Sum of the observations.
pub fn sum(h: &NativeHistogram) -> f64 {
    h.sum
}

/// Mean of the observations; NaN without any.
pub fn mean(h: &NativeHistogram) -> f64 {
    h.sum / h.count
}

/// Estimated variance of the observations. Each observation counts as the geometric mean of its
/// bucket, as 0 in the zero bucket, and as the arithmetic mean in custom buckets.
pub fn variance(h: &NativeHistogram) -> f64 {
    let mean = mean(h);
    let mut total = Neumaier::seeded(0.0);
    for bucket in h.all_buckets().filter(|b| b.count != 0.0) {
        let lower = bucket.lower;
        let upper = bucket.upper;
        let value = if h.is_custom() {
            (upper + lower) / 2.0
        } else if lower <= 0.0 && upper >= 0.0 {
            0.0
        } else {
            (upper * lower).sqrt().copysign(upper)
        };
        let delta = value - mean;
        total.add(bucket.count * delta * delta);
    }
    (total.sum + total.c) / h.count
}

/// Estimated standard deviation of the observations, the square root of [`variance`].
pub fn standard_deviation(h: &NativeHistogram) -> f64 {
    variance(h).sqrt()
}
