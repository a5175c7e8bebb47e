//! The trim operators: the part of a histogram below (`</`) or above (`>/`) a value.
//!
//! Buckets on the other side are removed, and the bucket that contains the value is split by
//! interpolation. If anything was trimmed, the sum is estimated from the midpoints of the remaining
//! buckets. A bucket with an infinite bound cannot be split; special rules apply
//! ([`TrimOp::unbounded`]).

use super::bucket::Bucket;
use super::logarithm::log2;
use super::{Buckets, NativeHistogram};

/// Which observations are kept.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum TrimSide {
    /// Those below the value: `</`.
    Below,
    /// Those above the value: `>/`.
    Above,
}

/// The number of observations of a bucket that are kept, and their representative value.
type TrimmedBucket = (f64, f64);

/// A trim operation.
struct TrimOp {
    keep: TrimSide,
    at: f64,
    custom: bool,
}

/// The totals of what remains.
#[derive(Default)]
struct TrimTotals {
    count: f64,
    sum: f64,
    changed: bool,
}

impl NativeHistogram {
    /// The observations below or above `at`. NaN keeps nothing.
    pub fn trimmed(&self, keep: TrimSide, at: f64) -> NativeHistogram {
        let trim = TrimOp { keep, at, custom: self.is_custom() };
        let mut out = self.clone();
        let mut left = TrimTotals::default();
        let positive = trim.side(&mut left, &mut out.positive, self.positive_buckets(), true);
        let negative = trim.side(&mut left, &mut out.negative, self.negative_buckets(), false);
        if let Some(zero) = self.zero_bucket().filter(|b| b.count > 0.0) {
            // Without negative observations the zero bucket has none either, as in Prometheus.
            let lower = if positive && !negative { 0.0 } else { zero.lower };
            let upper = if negative && !positive { 0.0 } else { zero.upper };
            let (count, middle) = trim.zero(zero.count, lower, upper);
            left.take(&mut out.zero_count, count, middle);
        }
        // Otherwise count and sum stay as they were: those of the buckets are only estimates.
        if left.changed {
            out.count = left.count;
            out.sum = left.sum;
            out.compact();
        }
        out
    }
}

impl TrimTotals {
    /// Sets a bucket to `count` observations, represented by `middle`.
    fn take(&mut self, bucket: &mut f64, count: f64, middle: f64) {
        self.count += count;
        self.sum += middle * count;
        if *bucket != count {
            *bucket = count;
            self.changed = true;
        }
    }
}

impl TrimOp {
    /// Trims the buckets of one sign. Returns whether any of them was populated.
    fn side(
        &self,
        left: &mut TrimTotals,
        out: &mut Buckets,
        buckets: impl Iterator<Item = Bucket>,
        positive: bool,
    ) -> bool {
        let mut populated = false;
        for (bucket, count) in buckets.zip(&mut out.counts).filter(|(b, _)| b.count != 0.0) {
            populated = true;
            let (whole, cut) = match self.keep {
                TrimSide::Below => (bucket.upper <= self.at, bucket.lower < self.at),
                TrimSide::Above => (bucket.lower >= self.at, bucket.upper > self.at),
            };
            if whole {
                left.take(count, bucket.count, self.middle(bucket.lower, bucket.upper, positive));
            } else if cut {
                let (kept, middle) = self.part(&bucket, positive);
                left.take(count, kept, middle);
            } else {
                *count = 0.0;
                left.changed = true;
            }
        }
        populated
    }

    /// What remains of a bucket that contains the value.
    fn part(&self, bucket: &Bucket, positive: bool) -> TrimmedBucket {
        // No interpolation has a meaning between a number and infinity.
        if bucket.lower == f64::NEG_INFINITY || bucket.upper == f64::INFINITY {
            return self.unbounded(bucket);
        }
        let below = self.below(bucket, positive);
        match self.keep {
            TrimSide::Below => (below, self.middle(bucket.lower, self.at, positive)),
            TrimSide::Above => (bucket.count - below, self.middle(self.at, bucket.upper, positive)),
        }
    }

    /// The number of observations of a bucket below the value: linear interpolation in custom
    /// buckets, logarithmic in exponential ones.
    fn below(&self, b: &Bucket, positive: bool) -> f64 {
        if self.at <= b.lower {
            return 0.0;
        }
        if self.at >= b.upper {
            return b.count;
        }
        let fraction = if self.custom {
            (self.at - b.lower) / (b.upper - b.lower)
        } else {
            // Observations are assumed to be spread evenly over the exponents, as the buckets are.
            let [lower, upper, at] = [b.lower, b.upper, self.at].map(|v| log2(v.abs()));
            if positive { (at - lower) / (upper - lower) } else { 1.0 - (at - upper) / (lower - upper) }
        };
        b.count * fraction
    }

    /// What remains of a bucket with an infinite bound that contains the value.
    ///
    /// A bucket from -Inf to a positive bound is treated as beginning at 0; to any other finite
    /// bound, it is kept completely by `</` and removed by `>/`. A bucket to +Inf is removed by
    /// `</` and kept completely by `>/`. Observations kept completely are represented by the value
    /// itself.
    fn unbounded(&self, b: &Bucket) -> TrimmedBucket {
        let at = self.at;
        let finite = b.upper != f64::INFINITY;
        match self.keep {
            _ if b.lower != f64::NEG_INFINITY => match self.keep {
                TrimSide::Above if at >= b.lower => (b.count, at),
                _ => (0.0, 0.0),
            },
            TrimSide::Below if at > 0.0 && b.upper > 0.0 && finite => (b.count * at / b.upper, at / 2.0),
            TrimSide::Below if b.upper <= 0.0 => (b.count, at),
            TrimSide::Above if at >= 0.0 && b.upper > at && finite => {
                (b.count * (1.0 - at / b.upper), (at + b.upper) / 2.0)
            }
            _ => (0.0, 0.0),
        }
    }

    /// What remains of the zero bucket, in which observations are assumed to be spread evenly.
    fn zero(&self, count: f64, lower: f64, upper: f64) -> TrimmedBucket {
        let at = self.at;
        let (whole, none) = match self.keep {
            TrimSide::Below => (at >= upper, at <= lower),
            TrimSide::Above => (at <= lower, at >= upper),
        };
        let (from, to) = match self.keep {
            TrimSide::Below => (lower, at),
            TrimSide::Above => (at, upper),
        };
        // A bucket of width 0 at the value is neither below nor above it: `</` removes it, `>/`
        // keeps it.
        let whole_first = self.keep == TrimSide::Above;
        if whole && (whole_first || !none) {
            (count, (lower + upper) / 2.0)
        } else if none {
            (0.0, 0.0)
        } else {
            (count * ((to - from) / (upper - lower)), (from + to) / 2.0)
        }
    }

    /// The value that represents the observations between two bounds.
    fn middle(&self, lower: f64, upper: f64, positive: bool) -> f64 {
        match (lower.is_infinite(), upper.is_infinite()) {
            (true, true) => 0.0,
            (true, false) if upper > 0.0 => upper / 2.0,
            (true, false) => upper,
            (false, true) => lower,
            (false, false) if self.custom => (lower + upper) / 2.0,
            (false, false) => {
                let middle = (lower * upper).abs().sqrt();
                if positive { middle } else { -middle }
            }
        }
    }
}
