//! Converts OTLP histograms to native histograms: exponential ones to exponential buckets, explicit
//! bounds to custom buckets. [`super::points`] calls it.

use super::message::{ExponentialBuckets, ExponentialPoint, HistogramPoint, is_end};
use crate::limits;
use crate::native_histogram::{RawBuckets, RawHistogram};
use storage::model::histogram::{BucketSpan, CUSTOM_BUCKETS, ResetHint, SCHEMA_MAX, SCHEMA_MIN};
use storage::model::value::STALE;

/// Half the width of the zero bucket, whatever the message says: so does Prometheus, and all
/// histograms of one series then have the same.
const ZERO_THRESHOLD: f64 = 1e-128;

/// Most empty buckets that are written as such. After more, a new span begins.
const EMPTY_IN_A_ROW: i64 = 2;

/// An exponential histogram that is too coarse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot convert exponential to native histogram. Scale must be >= -4, was {0}")]
pub(super) struct ScaleTooSmall(i32);

/// Collects buckets in ascending order.
#[derive(Default)]
struct BucketWriter {
    buckets: RawBuckets,
    /// The index after the last bucket.
    next: i64,
    /// The count of the last bucket.
    before: i64,
}

impl BucketWriter {
    /// Adds a bucket. Those between it and the one before are empty.
    fn push(&mut self, index: i64, count: u64) {
        let gap = index - self.next;
        if self.buckets.spans.is_empty() || gap > EMPTY_IN_A_ROW {
            match i32::try_from(gap) {
                Ok(offset) => self.buckets.spans.push(BucketSpan { offset, length: 0 }),
                // Further apart than any two buckets of a native histogram.
                Err(_) => self.buckets.too_many = true,
            }
        } else {
            for _ in 0..gap {
                self.put(0);
            }
        }
        self.put(count);
        self.next = index + 1;
    }

    /// Adds a bucket to the last span.
    fn put(&mut self, count: u64) {
        let Some(span) = self.buckets.spans.last_mut() else { return };
        if self.buckets.deltas.len() == limits::RAW_BUCKETS {
            self.buckets.too_many = true;
            return;
        }
        span.length += 1;
        // A count beyond the range becomes negative, which the validation refuses.
        let count = count as i64;
        self.buckets.deltas.push(count.wrapping_sub(self.before));
        self.before = count;
    }
}

/// The buckets of one sign; `2^shift` of them are made one.
fn exponential_buckets(buckets: Option<&ExponentialBuckets>, shift: u32) -> RawBuckets {
    let Some(buckets) = buckets else { return RawBuckets::default() };
    // A bucket is named after its lower bound in OTLP, after its upper one in Prometheus.
    let index = |n: usize| ((i64::from(buckets.offset) + n as i64) >> shift) + 1;
    let mut writer = BucketWriter::default();
    let mut open = index(0);
    let mut merged = 0u64;
    for (n, count) in buckets.counts.iter().enumerate() {
        let next = index(n);
        if next == open {
            merged = merged.saturating_add(*count);
        } else if merged == 0 {
            // Prometheus does not make `next` the open bucket here. So where several buckets are
            // made one, the first count after an empty one goes one bucket too low. Done as there:
            // the same histogram must be equal on both.
            merged = *count;
        } else {
            writer.push(next - 1, merged);
            merged = *count;
            open = next;
        }
    }
    if merged > 0 {
        writer.push(index(buckets.counts.len() - 1), merged);
    }
    writer.buckets
}

/// An exponential histogram as a native one.
pub(super) fn exponential(point: &ExponentialPoint, hint: ResetHint) -> Result<RawHistogram, ScaleTooSmall> {
    if point.scale < SCHEMA_MIN {
        return Err(ScaleTooSmall(point.scale));
    }
    let schema = point.scale.min(SCHEMA_MAX);
    // Beyond 32 every bucket is in one of two.
    let shift = (point.scale - schema).unsigned_abs().min(40);
    Ok(RawHistogram {
        count: point.count as f64,
        zero_count: point.zero_count as f64,
        sum: if is_end(point.flags) { STALE } else { point.sum.unwrap_or(0.0) },
        schema,
        zero_threshold: ZERO_THRESHOLD,
        positive: exponential_buckets(point.positive.as_ref(), shift),
        negative: exponential_buckets(point.negative.as_ref(), shift),
        hint,
        ..RawHistogram::default()
    })
}

/// A histogram with explicit bounds as a native one with custom buckets.
pub(super) fn custom(point: &HistogramPoint, hint: ResetHint) -> RawHistogram {
    let mut writer = BucketWriter::default();
    for (n, count) in point.bucket_counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        writer.push(n as i64, *count);
    }
    RawHistogram {
        count: point.count as f64,
        sum: if is_end(point.flags) { STALE } else { point.sum.unwrap_or(0.0) },
        schema: CUSTOM_BUCKETS,
        positive: writer.buckets,
        bounds: point.bounds.clone(),
        hint,
        ..RawHistogram::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The offsets of the spans, and the counts of the buckets.
    fn layout(buckets: &RawBuckets) -> (Vec<(i32, u32)>, Vec<i64>) {
        let mut count = 0;
        let counts = buckets.deltas.iter().map(|delta| {
            count += delta;
            count
        });
        (buckets.spans.iter().map(|span| (span.offset, span.length)).collect(), counts.collect())
    }

    #[test]
    fn exponential_buckets_are_laid_out_as_in_prometheus() {
        let of = |offset, counts: &[u64], shift| {
            let buckets = ExponentialBuckets { offset, counts: counts.to_vec() };
            layout(&exponential_buckets(Some(&buckets), shift))
        };
        // From the tests of Prometheus' translation of OTLP.
        assert_eq!(of(0, &[], 0), (vec![], vec![]));
        assert_eq!(of(1, &[4, 3, 2, 1], 0), (vec![(2, 4)], vec![4, 3, 2, 1]));
        assert_eq!(of(5, &[4, 3, 2, 1], 0), (vec![(6, 4)], vec![4, 3, 2, 1]));
        assert_eq!(of(0, &[4, 2, 0, 0, 0, 0, 1], 0), (vec![(1, 2), (4, 1)], vec![4, 2, 1]));
        assert_eq!(of(0, &[4, 2, 0, 1], 0), (vec![(1, 4)], vec![4, 2, 0, 1]));
        assert_eq!(of(0, &[4, 3, 2, 1], 1), (vec![(1, 2)], vec![7, 3]));
        assert_eq!(of(-1, &[4, 3, 2, 1], 1), (vec![(0, 3)], vec![4, 5, 1]));
        assert_eq!(of(0, &[4, 3, 2, 1], 2), (vec![(1, 1)], vec![10]));
        // Prometheus puts the 2 one bucket too low.
        assert_eq!(of(0, &[1, 1, 0, 0, 2, 3], 1), (vec![(1, 3)], vec![2, 2, 3]));
        assert_eq!(of(0, &[0, 0, 5, 1], 1), (vec![(1, 2)], vec![5, 1]));
        assert_eq!(of(0, &[0, 0, 0], 0), (vec![], vec![]));
        assert_eq!(of(i32::MAX, &[1], 0).1, [1; 0], "no native histogram has this bucket");
    }

    #[test]
    fn scales_are_brought_into_range() {
        let point = |scale| ExponentialPoint {
            scale,
            count: 3,
            positive: Some(ExponentialBuckets { offset: 0, counts: vec![1, 2] }),
            ..ExponentialPoint::default()
        };
        let schema = |scale| exponential(&point(scale), ResetHint::Unknown).map(|raw| raw.schema);
        assert_eq!((schema(-4), schema(8), schema(20), schema(i32::MAX)), (Ok(-4), Ok(8), Ok(8), Ok(8)));
        assert_eq!(
            schema(-5).unwrap_err().to_string(),
            "cannot convert exponential to native histogram. Scale must be >= -4, was -5"
        );
        let h = exponential(&point(9), ResetHint::Unknown).unwrap().finish().unwrap();
        assert_eq!((h.count, h.positive.counts.as_slice()), (3.0, &[3.0][..]));
    }

    #[test]
    fn explicit_bounds_are_custom_buckets() {
        let point = HistogramPoint {
            count: 3,
            sum: Some(9.0),
            bucket_counts: vec![0, 0, 1, 0, 2],
            bounds: vec![1.0, 2.0, 3.0, 4.0],
            ..HistogramPoint::default()
        };
        let raw = custom(&point, ResetHint::Unknown);
        assert_eq!(layout(&raw.positive), (vec![(2, 3)], vec![1, 0, 2]));
        let h = raw.finish().unwrap();
        assert_eq!((h.schema, &*h.bounds, h.sum), (CUSTOM_BUCKETS, &[1.0, 2.0, 3.0, 4.0][..], 9.0));
        let ended = HistogramPoint { flags: 1, ..point };
        assert!(custom(&ended, ResetHint::Unknown).is_stale());
    }
}
