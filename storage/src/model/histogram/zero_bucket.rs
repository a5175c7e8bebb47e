//! The zero bucket of a native histogram counts observations so close to zero that no exponential
//! bucket has them. Two histograms are only comparable with zero buckets of one width: here a zero
//! bucket is widened, which takes in whole exponential buckets.

use super::NativeHistogram;
use super::bounds::exponential;
use super::bucket_count::{BucketCount, CompensatedSum};
use super::signed_buckets::SignedBuckets;
use std::cmp::Ordering;

/// The zero bucket of a histogram with this schema.
#[derive(Copy, Clone)]
pub(super) struct ZeroBucket {
    pub schema: i32,
    pub threshold: f64,
    pub count: CompensatedSum,
}

impl NativeHistogram {
    /// As [`widened`], for this histogram.
    pub(super) fn widened_zero(&self, threshold: f64) -> (CompensatedSum, f64) {
        let count = CompensatedSum::from_value(self.zero_count);
        let zero = ZeroBucket { schema: self.schema, threshold: self.zero_threshold, count };
        widened(zero, self.positive.iter(), self.negative.iter(), threshold)
    }
}

/// The zero count with a greater or equal `threshold`, and the threshold that this needs: if it is
/// within a populated bucket, it is raised to the far end of this bucket, which then counts as
/// zero.
pub(super) fn widened<C: BucketCount>(
    bucket: ZeroBucket,
    positive: impl Iterator<Item = (i32, C)> + Clone,
    negative: impl Iterator<Item = (i32, C)> + Clone,
    mut threshold: f64,
) -> (CompensatedSum, f64) {
    let ZeroBucket { schema, threshold: own, count } = bucket;
    // Also for a NaN, which would never be reached.
    if threshold.partial_cmp(&own) != Some(Ordering::Greater) {
        return (count, own);
    }
    let mut total = count;
    loop {
        // The compensation of the first round is kept in the second one, as in Prometheus.
        total.sum = count.sum;
        threshold = swallow(&mut total, schema, positive.clone(), threshold);
        let raised = swallow(&mut total, schema, negative.clone(), threshold);
        if raised == threshold {
            return (total, threshold);
        }
        // The positive buckets were taken by a threshold that is no longer right.
        threshold = raised;
    }
}

/// Adds the buckets that begin below the threshold to `total`. Returns the threshold, raised if it
/// was within the last of them.
fn swallow<C: BucketCount>(
    total: &mut CompensatedSum,
    schema: i32,
    buckets: impl Iterator<Item = (i32, C)>,
    threshold: f64,
) -> f64 {
    for (index, cell) in buckets {
        if exponential(index.wrapping_sub(1), schema) >= threshold {
            break;
        }
        total.add(cell.compensated());
        let end = exponential(index, schema);
        if end > threshold {
            return if cell.plain() != 0.0 { end } else { threshold };
        }
    }
    threshold
}

/// Removes the buckets that begin below the threshold, and all empty ones.
pub(super) fn clear_below<C: BucketCount>(side: &mut SignedBuckets<C>, schema: i32, threshold: f64) {
    let within = side.iter().take_while(|(i, _)| exponential(i.wrapping_sub(1), schema) < threshold).count();
    side.cells[..within].fill(C::from_value(0.0));
    side.compact();
}
