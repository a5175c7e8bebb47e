//! The quantile of a native histogram: the kernel of `histogram_quantile`. [`mod@super::fraction`]
//! is its inverse.
//!
//! In exponential buckets, observations are assumed to be distributed evenly on a logarithmic
//! scale, so the median of one bucket is the bound that the next higher resolution would have
//! there. In the zero bucket and in custom buckets the scale is linear.

use super::super::NAN;
use super::one_sided;
use storage::model::NativeHistogram;
use storage::model::histogram::Bucket;
use storage::model::histogram::logarithm::{exp2, log2};

/// A quantile, and the effect of NaN observations on it.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct NativeQuantile {
    /// The interpolated quantile; NaN without observations.
    pub value: f64,
    /// The effect, which is an info annotation.
    pub nan: NanObservations,
}

/// The effect on a quantile of NaN observations, which are in the count but in no bucket. They
/// count as the greatest.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum NanObservations {
    /// There are none, or they do not matter.
    #[default]
    None,
    /// The quantile is among them: "result is NaN".
    Result,
    /// They make it higher: "result is skewed higher".
    Skew,
}

/// Quantile `q` of the observations. NaN without observations, infinite for `q` outside [0, 1].
pub fn quantile(q: f64, h: &NativeHistogram) -> NativeQuantile {
    let plain = |value| NativeQuantile { value, nan: NanObservations::None };
    if q < 0.0 {
        return plain(f64::NEG_INFINITY);
    }
    if q > 1.0 {
        return plain(f64::INFINITY);
    }
    if h.count == 0.0 || q.is_nan() {
        return plain(NAN);
    }
    // Searches from the nearer end; from the lower one if NaN observations may make the count too
    // big.
    if h.sum.is_nan() || q < 0.5 {
        let (bucket, count, rest) = find(h.all_buckets(), q * h.count);
        within(h, bucket, count, q * h.count, Some(rest))
    } else {
        let rank = (1.0 - q) * h.count;
        let (bucket, count, _) = find(h.all_buckets().rev(), rank);
        within(h, bucket, count, rank, None::<std::iter::Empty<Bucket>>)
    }
}

/// The first bucket up to which there are `rank` observations, or the last bucket; with the number
/// of observations up to it, and the buckets after it.
fn find<I: Iterator<Item = Bucket>>(mut buckets: I, rank: f64) -> (Bucket, f64, I) {
    let mut bucket = Bucket::default();
    let mut count = 0.0;
    for next in buckets.by_ref() {
        bucket = next;
        if bucket.count == 0.0 {
            continue;
        }
        count += bucket.count;
        if count >= rank {
            break;
        }
    }
    (bucket, count, buckets)
}

/// The quantile within its bucket. `rest` are the buckets after it, if the search was ascending.
fn within(
    h: &NativeHistogram,
    mut bucket: Bucket,
    count: f64,
    rank: f64,
    rest: Option<impl Iterator<Item = Bucket>>,
) -> NativeQuantile {
    let plain = |value| NativeQuantile { value, nan: NanObservations::None };
    if h.is_custom() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return plain(bucket.upper);
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return plain(bucket.lower);
        }
    } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
        one_sided(h, &mut bucket);
    }
    // Rounding may have made it larger than the count.
    let mut count = if count > h.count { h.count } else { count };
    if count < rank {
        return if h.sum.is_nan() {
            NativeQuantile { value: NAN, nan: NanObservations::Result }
        } else {
            plain(bucket.upper)
        };
    }
    let rank = if rest.is_some() { rank - (count - bucket.count) } else { count - rank };
    let mut nan = NanObservations::None;
    if h.sum.is_nan() {
        // As in Prometheus, the last bucket is interpolated, wherever the quantile was found.
        for last in rest.into_iter().flatten() {
            count += last.count;
            bucket = last;
        }
        if count < h.count {
            nan = NanObservations::Skew;
        }
    }
    NativeQuantile { value: interpolate(&bucket, rank / bucket.count, h.is_custom()), nan }
}

/// The value at a fraction of a bucket's observations.
fn interpolate(bucket: &Bucket, fraction: f64, custom: bool) -> f64 {
    let lower = bucket.lower;
    let upper = bucket.upper;
    if custom || (lower <= 0.0 && upper >= 0.0) {
        return lower + (upper - lower) * fraction;
    }
    let log_lower = log2(lower.abs());
    let log_upper = log2(upper.abs());
    if lower > 0.0 {
        return exp2(log_lower + (log_upper - log_lower) * fraction);
    }
    -exp2(log_upper + (log_lower - log_upper) * (1.0 - fraction))
}
