//! Iterators over the buckets of a histogram, with their bounds.
//!
//! All iterators are double-ended. [`NativeHistogram::all_buckets`] is the one for quantiles and
//! output; the others return buckets as they are stored, even if the zero bucket overlaps them.

use super::bounds::upper_bound;
use super::signed_buckets::BucketIter;
use super::{Buckets, NativeHistogram};

/// One bucket.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Bucket {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Whether an observation equal to the lower bound is in it.
    pub lower_inclusive: bool,
    /// Whether an observation equal to the upper bound is in it.
    pub upper_inclusive: bool,
    /// Number of observations.
    pub count: f64,
    /// The index within the schema and sign; 0 for the zero bucket.
    pub index: i32,
}

impl Buckets {
    /// The index and count of every bucket, ascending by index.
    pub fn iter(&self) -> BucketIter<'_, f64> {
        BucketIter::new(&self.spans, &self.counts)
    }

    /// Whether there are no buckets, not even empty ones.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

impl NativeHistogram {
    /// The buckets of positive observations, from zero upwards; all buckets if they are custom.
    pub fn positive_buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> + '_ {
        self.positive.iter().map(|(index, count)| self.positive_bucket(index, count))
    }

    /// The buckets of negative observations, from zero downwards.
    pub fn negative_buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> + '_ {
        self.negative.iter().map(|(index, count)| {
            let lower = -upper_bound(index, self.schema, &[]);
            let upper = -upper_bound(index.wrapping_sub(1), self.schema, &[]);
            let lower_inclusive = lower < 0.0;
            let upper_inclusive = upper > 0.0;
            Bucket { lower, upper, lower_inclusive, upper_inclusive, count, index }
        })
    }

    /// The zero bucket; `None` if the buckets are custom.
    pub fn zero_bucket(&self) -> Option<Bucket> {
        (!self.is_custom()).then_some(Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
            index: 0,
        })
    }

    /// All buckets, ascending. The zero bucket is included only if its count is positive. Buckets
    /// that it overlaps are cut at its threshold.
    pub fn all_buckets(&self) -> impl DoubleEndedIterator<Item = Bucket> + '_ {
        let zero = self.zero_bucket().filter(|b| b.count > 0.0);
        let clipped = |b| self.clipped(b);
        self.negative_buckets().rev().map(clipped).chain(zero).chain(self.positive_buckets().map(clipped))
    }

    fn positive_bucket(&self, index: i32, count: f64) -> Bucket {
        let lower = upper_bound(index.wrapping_sub(1), self.schema, &self.bounds);
        let upper = upper_bound(index, self.schema, &self.bounds);
        let (lower_inclusive, upper_inclusive) =
            if self.is_custom() { (index == 0, true) } else { (lower < 0.0, upper > 0.0) };
        Bucket { lower, upper, lower_inclusive, upper_inclusive, count, index }
    }

    fn clipped(&self, mut bucket: Bucket) -> Bucket {
        if bucket.upper < 0.0 && bucket.upper > -self.zero_threshold {
            bucket.upper = -self.zero_threshold;
        } else if bucket.lower > 0.0 && bucket.lower < self.zero_threshold {
            bucket.lower = self.zero_threshold;
        }
        bucket
    }
}
