//! [`DeltaStreams`]: converts delta temporality to cumulative values, for the feature
//! `otlp-deltatocumulative`: adds up the data points of each stream.
//!
//! The sums are in memory only. After a restart they begin at zero, which readers see as a counter
//! reset.

use super::message::{ExponentialBuckets, ExponentialPoint, HistogramPoint, NumberPoint, is_end};
use crate::limits;
use std::collections::HashMap;
use storage::model::TimeMs;

/// How often idle streams are removed, ms.
const SWEEP_MS: i64 = 60_000;

/// Most buckets of one sign of a sum; beyond it the resolution is lowered.
const SUM_BUCKETS: usize = 160;

/// The error for a new stream where there are too many.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the sums of delta metrics fill {} MiB: send fewer series, or cumulative metrics",
    limits::OTLP_DELTA_BYTES >> 20
)]
pub(super) struct SumsFull;

/// The sums of all streams.
#[derive(Debug, Default)]
pub(super) struct DeltaStreams {
    streams: HashMap<u128, Stream>,
    /// Bytes of all streams, approximately.
    bytes: usize,
    /// When idle streams were removed the last time, ms.
    swept: TimeMs,
}

/// The sum of one stream: the data points of a metric with the same attributes.
#[derive(Debug)]
struct Stream {
    /// The start of the sum, ns.
    start: u64,
    /// The time of the newest data point, ns.
    last: u64,
    /// The wall clock at the newest data point, ms.
    seen: TimeMs,
    sum: Sum,
    /// Bytes that it takes, approximately.
    bytes: usize,
}

/// What was added up, as a data point without attributes and exemplars.
#[derive(Debug)]
pub(super) enum Sum {
    Number(NumberPoint),
    Histogram(HistogramPoint),
    Exponential(ExponentialPoint),
}

/// A data point that can be a delta.
pub(super) trait DeltaPoint: Sized {
    /// Its start, ns.
    fn start_mut(&mut self) -> &mut u64;
    /// Its time, ns.
    fn time(&self) -> u64;
    /// Its flags.
    fn flags(&self) -> u32;
    /// Adds an earlier sum. Returns whether that was possible; if not, the point begins a new sum.
    fn add(&mut self, sum: &Sum) -> bool;
    /// The point as a sum.
    fn to_sum(&self) -> Sum;
    /// Bytes of its lists.
    fn list_bytes(&self) -> usize;
}

impl DeltaStreams {
    /// Makes a data point the sum of its stream so far. Returns whether it is to be stored: points
    /// that are older than the newest of their stream are not.
    pub(super) fn add<P: DeltaPoint>(
        &mut self,
        key: u128,
        point: &mut P,
        now: TimeMs,
    ) -> Result<bool, SumsFull> {
        self.sweep(now);
        let time = point.time();
        if is_end(point.flags()) {
            self.forget(key);
            return Ok(true);
        }
        let mut start = *point.start_mut();
        if let Some(stream) = self.streams.get(&key) {
            if start < stream.start || time <= stream.last {
                return Ok(false);
            }
            if point.add(&stream.sum) {
                start = stream.start;
                *point.start_mut() = start;
            }
        }
        let bytes = size_of::<(u128, Stream)>() + point.list_bytes();
        let before = self.streams.get(&key).map_or(0, |stream| stream.bytes);
        if self.bytes - before + bytes > limits::OTLP_DELTA_BYTES {
            return Err(SumsFull);
        }
        self.bytes = self.bytes - before + bytes;
        self.streams.insert(key, Stream { start, last: time, seen: now, sum: point.to_sum(), bytes });
        Ok(true)
    }

    /// Removes a stream.
    fn forget(&mut self, key: u128) {
        if let Some(stream) = self.streams.remove(&key) {
            self.bytes -= stream.bytes;
        }
    }

    /// Forgets streams that had no data point for a while.
    fn sweep(&mut self, now: TimeMs) {
        if now.saturating_sub(self.swept) < SWEEP_MS {
            return;
        }
        self.swept = now;
        self.streams.retain(|_, stream| now.saturating_sub(stream.seen) <= limits::OTLP_DELTA_IDLE_MS);
        self.bytes = self.streams.values().map(|stream| stream.bytes).sum();
    }
}

/// The sum of two sums of observations; `None` if either is not known.
fn add_sums(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    Some(a? + b?)
}

impl DeltaPoint for NumberPoint {
    fn start_mut(&mut self) -> &mut u64 {
        &mut self.start
    }

    fn time(&self) -> u64 {
        self.time
    }

    fn flags(&self) -> u32 {
        self.flags
    }

    fn add(&mut self, sum: &Sum) -> bool {
        let Sum::Number(sum) = sum else { return false };
        match (self.integer, sum.integer) {
            (Some(a), Some(b)) => self.integer = Some(a.saturating_add(b)),
            _ => {
                self.double = Some(self.value() + sum.value());
                self.integer = None;
            }
        }
        true
    }

    fn to_sum(&self) -> Sum {
        Sum::Number(NumberPoint { double: self.double, integer: self.integer, ..NumberPoint::default() })
    }

    fn list_bytes(&self) -> usize {
        0
    }
}

impl DeltaPoint for HistogramPoint {
    fn start_mut(&mut self) -> &mut u64 {
        &mut self.start
    }

    fn time(&self) -> u64 {
        self.time
    }

    fn flags(&self) -> u32 {
        self.flags
    }

    fn add(&mut self, sum: &Sum) -> bool {
        let Sum::Histogram(sum) = sum else { return false };
        // Counts of other buckets cannot be added.
        if self.bounds != sum.bounds || self.bucket_counts.len() != sum.bucket_counts.len() {
            return false;
        }
        for (count, before) in self.bucket_counts.iter_mut().zip(&sum.bucket_counts) {
            *count = count.saturating_add(*before);
        }
        self.count = self.count.saturating_add(sum.count);
        self.sum = add_sums(self.sum, sum.sum);
        true
    }

    fn to_sum(&self) -> Sum {
        Sum::Histogram(HistogramPoint {
            count: self.count,
            sum: self.sum,
            bucket_counts: self.bucket_counts.clone(),
            bounds: self.bounds.clone(),
            ..HistogramPoint::default()
        })
    }

    fn list_bytes(&self) -> usize {
        size_of_val(self.bucket_counts.as_slice()) + size_of_val(self.bounds.as_slice())
    }
}

impl DeltaPoint for ExponentialPoint {
    fn start_mut(&mut self) -> &mut u64 {
        &mut self.start
    }

    fn time(&self) -> u64 {
        self.time
    }

    fn flags(&self) -> u32 {
        self.flags
    }

    fn add(&mut self, sum: &Sum) -> bool {
        let Sum::Exponential(sum) = sum else { return false };
        let positive = [
            SignBuckets { buckets: self.positive.as_ref(), scale: self.scale },
            SignBuckets { buckets: sum.positive.as_ref(), scale: sum.scale },
        ];
        let negative = [
            SignBuckets { buckets: self.negative.as_ref(), scale: self.scale },
            SignBuckets { buckets: sum.negative.as_ref(), scale: sum.scale },
        ];
        // Both signs have one scale.
        let scale = fitting_scale(negative, fitting_scale(positive, self.scale.min(sum.scale)));
        let threshold = self.zero_threshold.max(sum.zero_threshold);
        let mut zero_count = self.zero_count.saturating_add(sum.zero_count);
        let mut merged = [merge(positive, scale), merge(negative, scale)];
        for side in &mut merged {
            zero_count = zero_count.saturating_add(drain_below(side, scale, threshold));
        }
        let [positive, negative] = merged;
        self.positive = Some(positive);
        self.negative = Some(negative);
        self.scale = scale;
        self.zero_threshold = threshold;
        self.zero_count = zero_count;
        self.count = self.count.saturating_add(sum.count);
        self.sum = add_sums(self.sum, sum.sum);
        true
    }

    fn to_sum(&self) -> Sum {
        Sum::Exponential(ExponentialPoint {
            count: self.count,
            sum: self.sum,
            scale: self.scale,
            zero_count: self.zero_count,
            zero_threshold: self.zero_threshold,
            positive: self.positive.clone(),
            negative: self.negative.clone(),
            ..ExponentialPoint::default()
        })
    }

    fn list_bytes(&self) -> usize {
        let side =
            |side: &Option<ExponentialBuckets>| side.as_ref().map_or(0, |b| size_of_val(b.counts.as_slice()));
        side(&self.positive) + side(&self.negative)
    }
}

/// The index of a bucket in a scale that is lower by `by`.
fn scaled(index: i64, by: i32) -> i64 {
    index >> by.clamp(0, 63)
}

/// The buckets of one sign of a histogram.
#[derive(Copy, Clone)]
struct SignBuckets<'a> {
    /// `None`: there are none.
    buckets: Option<&'a ExponentialBuckets>,
    /// The scale of the histogram.
    scale: i32,
}

/// The indices of the first and the last bucket that has a count.
#[derive(Copy, Clone)]
struct UsedRange {
    first: i64,
    last: i64,
}

impl SignBuckets<'_> {
    /// The index of the bucket with number `n` of the list, in the scale `to`, which is not higher.
    fn index(&self, buckets: &ExponentialBuckets, n: usize, to: i32) -> i64 {
        scaled(i64::from(buckets.offset) + n as i64, self.scale.saturating_sub(to))
    }

    /// The used buckets in the scale `to`.
    fn used(&self, to: i32) -> Option<UsedRange> {
        let buckets = self.buckets?;
        let first = buckets.counts.iter().position(|count| *count > 0)?;
        let last = buckets.counts.iter().rposition(|count| *count > 0)?;
        Some(UsedRange { first: self.index(buckets, first, to), last: self.index(buckets, last, to) })
    }
}

/// The used buckets of both together, in the scale `to`.
fn used_of_both(sides: [SignBuckets<'_>; 2], to: i32) -> Option<UsedRange> {
    let [a, b] = sides.map(|side| side.used(to));
    match (a, b) {
        (Some(a), Some(b)) => Some(UsedRange { first: a.first.min(b.first), last: a.last.max(b.last) }),
        (a, b) => a.or(b),
    }
}

/// The highest scale up to `scale` in which the buckets of both together are not too many.
fn fitting_scale(sides: [SignBuckets<'_>; 2], scale: i32) -> i32 {
    let Some(UsedRange { mut first, mut last }) = used_of_both(sides, scale) else { return scale };
    let mut fitting = scale;
    while last - first >= SUM_BUCKETS as i64 {
        first >>= 1;
        last >>= 1;
        fitting = fitting.saturating_sub(1);
    }
    fitting
}

/// The counts of both added, in a scale in which they fit ([`fitting_scale`]).
fn merge(sides: [SignBuckets<'_>; 2], scale: i32) -> ExponentialBuckets {
    let Some(UsedRange { first, last }) = used_of_both(sides, scale) else {
        return ExponentialBuckets::default();
    };
    let mut counts = vec![0u64; usize::try_from(last - first).unwrap_or(0) + 1];
    for side in sides {
        let Some(buckets) = side.buckets else { continue };
        for (n, count) in buckets.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let at = side.index(buckets, n, scale) - first;
            if let Some(sum) = usize::try_from(at).ok().and_then(|at| counts.get_mut(at)) {
                *sum = sum.saturating_add(*count);
            }
        }
    }
    ExponentialBuckets { offset: i32::try_from(first).unwrap_or(i32::MAX), counts }
}

/// Removes the observations from the buckets that lie completely within the zero bucket. Returns
/// their number.
fn drain_below(buckets: &mut ExponentialBuckets, scale: i32, threshold: f64) -> u64 {
    if threshold <= 0.0 {
        return 0;
    }
    let mut taken = 0u64;
    for (n, count) in buckets.counts.iter_mut().enumerate() {
        let upper = (i64::from(buckets.offset) + n as i64 + 1) as f64;
        if (upper * f64::from(-scale).exp2()).exp2() > threshold {
            break;
        }
        taken = taken.saturating_add(std::mem::take(count));
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(start: u64, time: u64, integer: i64) -> NumberPoint {
        NumberPoint { start, time, integer: Some(integer), ..NumberPoint::default() }
    }

    #[test]
    fn numbers_add_up_and_old_ones_are_left_out() {
        let mut streams = DeltaStreams::default();
        let mut add = |key, mut point: NumberPoint, now| {
            let is_stored = streams.add(key, &mut point, now).unwrap();
            (is_stored, point.value(), point.start)
        };
        assert_eq!(add(1, number(10, 20, 5), 0), (true, 5.0, 10));
        assert_eq!(add(2, number(10, 20, 7), 0), (true, 7.0, 10));
        assert_eq!(add(1, number(20, 30, 3), 0), (true, 8.0, 10));
        assert!(!add(1, number(20, 30, 3), 0).0, "the same time");
        assert!(!add(1, number(5, 40, 3), 0).0, "it begins before the sum");
        let half = NumberPoint { integer: None, double: Some(0.5), ..number(30, 50, 0) };
        assert_eq!(add(1, half, 0), (true, 8.5, 10));
        // Five minutes later it is forgotten.
        assert_eq!(add(1, number(60, 70, 1), 400_000), (true, 1.0, 60));
        let ended = NumberPoint { flags: 1, ..number(70, 80, 0) };
        assert!(add(1, ended, 400_000).0);
        assert_eq!(add(1, number(80, 90, 2), 400_000), (true, 2.0, 80));
    }

    #[test]
    fn histograms_add_up_while_their_bounds_are_the_same() {
        let mut streams = DeltaStreams::default();
        let point = |time, bounds: &[f64], counts: &[u64], sum| HistogramPoint {
            start: 1,
            time,
            count: counts.iter().sum(),
            sum,
            bucket_counts: counts.to_vec(),
            bounds: bounds.to_vec(),
            ..HistogramPoint::default()
        };
        let mut add = |mut point: HistogramPoint| {
            assert!(streams.add(1, &mut point, 0).unwrap());
            (point.bucket_counts, point.count, point.sum)
        };
        assert_eq!(add(point(2, &[1.0], &[1, 2], Some(4.0))), (vec![1, 2], 3, Some(4.0)));
        assert_eq!(add(point(3, &[1.0], &[1, 0], Some(0.5))), (vec![2, 2], 4, Some(4.5)));
        assert_eq!(add(point(4, &[1.0], &[1, 0], None)), (vec![3, 2], 5, None));
        assert_eq!(add(point(5, &[2.0], &[1, 0], Some(1.0))), (vec![1, 0], 1, Some(1.0)));
    }

    #[test]
    fn exponential_histograms_add_up_in_the_coarser_scale() {
        let mut streams = DeltaStreams::default();
        let point = |time, scale, offset, counts: &[u64]| ExponentialPoint {
            start: 1,
            time,
            scale,
            count: counts.iter().sum(),
            sum: Some(1.0),
            positive: Some(ExponentialBuckets { offset, counts: counts.to_vec() }),
            ..ExponentialPoint::default()
        };
        let mut add = |mut point: ExponentialPoint| {
            assert!(streams.add(1, &mut point, 0).unwrap());
            let ExponentialBuckets { offset, counts } = point.positive.unwrap();
            (point.scale, offset, counts, point.count, point.zero_count)
        };
        assert_eq!(add(point(2, 3, 0, &[1, 2])), (3, 0, vec![1, 2], 3, 0));
        assert_eq!(add(point(3, 3, 2, &[4])), (3, 0, vec![1, 2, 4], 7, 0));
        assert_eq!(add(point(4, 2, 1, &[8])), (2, 0, vec![3, 12], 15, 0));
        // Buckets from 1 to 2^60: 240 of them in scale 2, 120 in scale 1.
        let (scale, offset, counts, count, _) = add(point(5, 2, 240, &[1]));
        assert_eq!((scale, offset, counts.len(), count), (1, 0, 121, 16));
        // A zero bucket up to 2 takes the two buckets below it.
        let wide = ExponentialPoint { zero_threshold: 2.0, ..point(6, 1, 0, &[]) };
        let (_, _, counts, count, zero_count) = add(wide);
        assert_eq!((counts[0], counts[120], count, zero_count), (0, 1, 16, 15));
    }

    #[test]
    fn there_is_room_for_some_streams() {
        let mut streams = DeltaStreams::default();
        let most = limits::OTLP_DELTA_BYTES / size_of::<(u128, Stream)>();
        for key in 0..most as u128 {
            streams.add(key, &mut number(0, 1, 1), 0).unwrap();
        }
        assert_eq!(streams.add(u128::MAX, &mut number(0, 1, 1), 0), Err(SumsFull));
        assert_eq!(streams.add(1, &mut number(0, 2, 1), 0), Ok(true), "those that are known go on");
        assert_eq!(streams.add(u128::MAX, &mut number(0, 1, 1), 400_000), Ok(true));
    }
}
