//! The zero bucket made wider: what it would count, and which threshold it must have.

use super::NativeHistogram;
use super::bounds::exponential;
use super::bucket_count::{BucketCount, CompensatedSum};
use super::signed_buckets::SignedBuckets;
use std::cmp::Ordering;

/// A histogram's schema, zero threshold and zero count.
type ZeroBucket = (i32, f64, CompensatedSum);

impl NativeHistogram {
    /// As [`widened`], for this histogram.
    pub(super) fn widened_zero(&self, threshold: f64) -> (CompensatedSum, f64) {
        let zero = (self.schema, self.zero_threshold, CompensatedSum::of(self.zero_count));
        widened(zero, self.positive.iter(), self.negative.iter(), threshold)
    }
}

/// The zero count under a greater (or the same) `threshold`, and the threshold that this really
/// needs: one that ends up within a populated bucket is raised to the bucket's far end, and the
/// bucket counts as zero.
pub(super) fn widened<C: BucketCount>(
    (schema, own, zero): ZeroBucket,
    positive: impl Iterator<Item = (i32, C)> + Clone,
    negative: impl Iterator<Item = (i32, C)> + Clone,
    mut threshold: f64,
) -> (CompensatedSum, f64) {
    if threshold.partial_cmp(&own) != Some(Ordering::Greater) {
        return (zero, own); // also for a NaN, which would never be reached
    }
    let mut total = zero;
    loop {
        // What was lost is kept over a second round, as it is upstream.
        total.sum = zero.sum;
        threshold = swallow(&mut total, schema, positive.clone(), threshold);
        let raised = swallow(&mut total, schema, negative.clone(), threshold);
        if raised == threshold {
            return (total, threshold);
        }
        threshold = raised; // the positive buckets were taken by a threshold that is no longer right
    }
}

/// Adds the buckets that begin below the threshold to `total`; the threshold, raised if it was
/// within the last one.
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

/// Removes the buckets that begin below the threshold, and empty ones with them.
pub(super) fn clear_below<C: BucketCount>(side: &mut SignedBuckets<C>, schema: i32, threshold: f64) {
    let within = side.iter().take_while(|(i, _)| exponential(i.wrapping_sub(1), schema) < threshold).count();
    side.cells[..within].fill(C::of(0.0));
    side.compact();
}
