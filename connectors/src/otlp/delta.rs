//! [`DeltaStreams`]: converts delta temporality to cumulative values, for the feature
//! `otlp-deltatocumulative`: adds up the data points of each stream.
//!
//! The sums are in memory only. After a restart they begin at zero, which readers see as a counter
//! reset.

use super::message::{ExponentialBuckets, ExponentialPoint, HistogramPoint, NumberPoint, is_end};
use crate::limits;
use std::borrow::Cow;
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
        if self.bounds != sum.bounds {
            return false;
        }
        // A point with too few or too many counts is added as far as it goes.
        let mut counts = sum.bucket_counts.clone();
        for (count, more) in counts.iter_mut().zip(&self.bucket_counts) {
            *count = count.saturating_add(*more);
        }
        self.bucket_counts = counts;
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
        let mut sum = Cow::Borrowed(sum);
        let [positive, negative] = both_signs(self, &sum);
        // Both signs have one scale.
        let scale = fitting_scale(negative, fitting_scale(positive, self.scale.min(sum.scale)));
        // As in the Collector, which Prometheus uses: the narrower zero bucket is widened to whole
        // buckets. Equal ones stay, also if other buckets lie within them.
        let mut threshold = sum.zero_threshold;
        if self.zero_threshold > sum.zero_threshold {
            let last = last_within(self.zero_threshold, scale);
            sum.to_mut().widen_zero(last, scale);
            threshold = upper_bound(last, scale);
        } else if self.zero_threshold < sum.zero_threshold {
            self.widen_zero(last_within(sum.zero_threshold, scale), scale);
        }
        let [positive, negative] = both_signs(self, &sum).map(|sides| merge(sides, scale));
        self.positive = Some(positive);
        self.negative = Some(negative);
        self.scale = scale;
        self.zero_threshold = threshold;
        self.zero_count = self.zero_count.saturating_add(sum.zero_count);
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

/// The buckets of a data point and of a sum: the positive ones of both, then the negative ones.
fn both_signs<'a>(point: &'a ExponentialPoint, sum: &'a ExponentialPoint) -> [[SignBuckets<'a>; 2]; 2] {
    let of = |point: &'a ExponentialPoint| {
        [&point.positive, &point.negative]
            .map(|buckets| SignBuckets { buckets: buckets.as_ref(), scale: point.scale })
    };
    let [point_positive, point_negative] = of(point);
    let [sum_positive, sum_negative] = of(sum);
    [[point_positive, sum_positive], [point_negative, sum_negative]]
}

impl ExponentialPoint {
    /// Moves the observations of the buckets up to `last`, an index in `scale`, to the zero bucket.
    fn widen_zero(&mut self, last: i64, scale: i32) {
        let by = self.scale.saturating_sub(scale);
        for buckets in [&mut self.positive, &mut self.negative].into_iter().flatten() {
            let first = i64::from(buckets.offset);
            for (index, count) in (first..).zip(&mut buckets.counts) {
                if scaled(index, by) <= last {
                    self.zero_count = self.zero_count.saturating_add(std::mem::take(count));
                }
            }
        }
    }
}

/// The last bucket of `scale` in a zero bucket of this width: that which has it, or ends with it.
fn last_within(width: f64, scale: i32) -> i64 {
    const MANTISSA_BITS: u32 = f64::MANTISSA_DIGITS - 1;
    let exponent = (width.to_bits() >> MANTISSA_BITS) as i64 - 1023;
    if width.is_normal() && width.to_bits().trailing_zeros() >= MANTISSA_BITS {
        // A power of two is the end of a bucket, and exactly.
        let end = if scale >= 0 { exponent << scale.min(40) } else { scaled(exponent, -scale) };
        return end - 1;
    }
    (width.ln() * std::f64::consts::LOG2_E * f64::from(scale).exp2()).floor() as i64
}

/// The upper end of a bucket.
fn upper_bound(index: i64, scale: i32) -> f64 {
    let end = index.saturating_add(1) as f64;
    (end * std::f64::consts::LN_2 * f64::from(-scale).exp2()).exp()
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
        let (_, offset, counts, count, zero_count) = add(wide);
        assert_eq!((offset, counts, count, zero_count), (120, vec![1], 16, 15));
    }

    /// What the Collector's code makes of the same points.
    #[test]
    fn the_narrower_zero_bucket_is_widened() {
        struct Case {
            /// Zero thresholds of the sum before and of the data point.
            thresholds: [f64; 2],
            threshold: f64,
            zero_count: u64,
            counts: &'static [u64],
        }
        // Buckets of scale 0 that end at 1, 2, 4 and 8, each with one observation, in both.
        let case =
            |thresholds, threshold, zero_count, counts| Case { thresholds, threshold, zero_count, counts };
        let cases = [
            case([0.0, 0.0], 0.0, 0, &[2, 2, 2, 2]),
            case([4.0, 4.0], 4.0, 0, &[2, 2, 2, 2]),
            case([0.0, 4.0], 4.0, 3, &[1, 1, 1, 2]),
            case([4.0, 0.0], 4.0, 3, &[1, 1, 1, 2]),
            // The bucket that has the threshold goes as a whole. A wider sum keeps its threshold.
            case([0.0, 3.0], 4.0, 3, &[1, 1, 1, 2]),
            case([3.0, 0.0], 3.0, 3, &[1, 1, 1, 2]),
            case([0.0, 0.25], 0.25, 0, &[2, 2, 2, 2]),
        ];
        for Case { thresholds, threshold, zero_count, counts } in cases {
            let mut streams = DeltaStreams::default();
            let mut times = 2..;
            let [_, added] = thresholds.map(|zero_threshold| {
                let time = times.next().expect("there is always another");
                let positive = Some(ExponentialBuckets { offset: -1, counts: vec![1; 4] });
                let mut point =
                    ExponentialPoint { start: 1, time, zero_threshold, positive, ..Default::default() };
                streams.add(1, &mut point, 0).unwrap();
                point
            });
            let buckets = added.positive.expect("some are there");
            let found = ((added.zero_threshold * 1e9).round() / 1e9, added.zero_count, &buckets.counts[..]);
            assert_eq!(found, (threshold, zero_count, counts), "{thresholds:?}");
            assert_eq!(buckets.offset, -1, "{thresholds:?}");
        }
    }

    #[test]
    fn widths_of_zero_buckets_have_a_last_bucket() {
        for (width, scale, last) in
            [(1.0, 0, -1), (2.0, 0, 0), (2.0, 3, 7), (3.0, 0, 1), (0.5, 1, -3), (4.0, -1, 0), (8.0, -1, 0)]
        {
            assert_eq!(last_within(width, scale), last, "{width} in {scale}");
        }
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
