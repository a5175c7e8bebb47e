//! The fraction of a native histogram's observations between two values: the kernel of
//! `histogram_fraction`, and the inverse of the quantile ([`mod@super::quantile`]).

use super::super::NAN;
use super::one_sided;
use storage::model::NativeHistogram;
use storage::model::histogram::Bucket;
use storage::model::histogram::logarithm::log2;

/// A fraction of observations.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct NativeFraction {
    /// The share of the observations, 0 to 1; NaN without observations.
    pub value: f64,
    /// Some observations are NaN and so in no range, which is an info annotation.
    pub excludes_nan: bool,
}

/// A value, and how many observations are below it, once known.
struct RankedBound {
    value: f64,
    rank: Option<f64>,
}

impl RankedBound {
    /// Finds the rank if the value is at the beginning of a bucket; `rank` observations are below
    /// the bucket.
    fn at_start(&mut self, bucket: &Bucket, rank: f64) {
        if self.rank.is_none() && bucket.lower >= self.value {
            self.rank = Some(rank);
        }
    }

    /// Finds the rank if the value is inside the bucket.
    fn inside(&mut self, bucket: &Bucket, rank: f64, linear: bool) {
        if self.rank.is_none() && bucket.lower < self.value && bucket.upper > self.value {
            self.rank = Some(below(bucket, rank, self.value, linear));
        }
    }

    /// The number of observations below the value; `count` if it is after every bucket.
    fn rank(&self, count: f64) -> f64 {
        match self.rank {
            Some(rank) if rank > count => count,
            rank => rank.unwrap_or(count),
        }
    }
}

/// The fraction of the observations above `lower` and not above `upper`. NaN without observations
/// or for a NaN bound; 0 if the bounds are not ascending.
pub fn fraction(lower: f64, upper: f64, h: &NativeHistogram) -> NativeFraction {
    let plain = |value| NativeFraction { value, excludes_nan: false };
    if h.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return plain(NAN);
    }
    if lower >= upper {
        return plain(0.0);
    }
    let mut edges = [RankedBound { value: lower, rank: None }, RankedBound { value: upper, rank: None }];
    let mut rank = 0.0;
    let mut in_buckets = 0.0;
    let mut buckets = h.all_buckets();
    for mut bucket in buckets.by_ref() {
        in_buckets += bucket.count;
        let at_zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
        if at_zero {
            one_sided(h, &mut bucket);
        }
        for e in edges.iter_mut() {
            e.at_start(&bucket, rank);
        }
        for e in edges.iter_mut() {
            e.inside(&bucket, rank, at_zero || h.is_custom());
        }
        if edges.iter().all(|e| e.rank.is_some()) {
            break;
        }
        rank += bucket.count;
    }
    let nan = h.sum.is_nan();
    let count = if nan { buckets.fold(in_buckets, |sum, b| sum + b.count) } else { h.count };
    let [lower, upper] = edges.map(|e| e.rank(count));
    NativeFraction { value: (upper - lower) / h.count, excludes_nan: nan && count < h.count }
}

/// The number of observations below `v`, which is inside a bucket below which there are `rank`
/// observations.
fn below(b: &Bucket, rank: f64, v: f64, linear: bool) -> f64 {
    if linear {
        // The distribution above -Inf is not known, so all observations count as below.
        if b.lower == f64::NEG_INFINITY {
            return b.count;
        }
        // The fraction is computed first, because the product may overflow.
        return rank + b.count * ((v - b.lower) / (b.upper - b.lower));
    }
    let [log_lower, log_upper, log_v] = [b.lower, b.upper, v].map(|v| log2(v.abs()));
    let fraction = if v > 0.0 {
        (log_v - log_lower) / (log_upper - log_lower)
    } else {
        1.0 - (log_v - log_upper) / (log_lower - log_upper)
    };
    rank + b.count * fraction
}
