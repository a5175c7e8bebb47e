//! Sums and means that are computed in several places: split into plain histograms that can be
//! sent, rebuilt from them, and merged.
//!
//! Splitting and rebuilding changes no bit. Merging adds in another order than one by one, so the
//! result can differ by rounding.

use super::super::bucket_count::CompensatedSum;
use super::super::{Buckets, HistogramError, MergeConflicts, NativeHistogram};
use super::{HistogramMean, HistogramSum, SeenResetHints};

impl HistogramSum {
    /// The plain sum, and the part lost to rounding, as two histograms with the same layout.
    pub fn to_parts(&self) -> (NativeHistogram, NativeHistogram) {
        (self.part(|cell| cell.sum), self.part(|cell| cell.lost))
    }

    fn part(&self, of: impl Fn(CompensatedSum) -> f64) -> NativeHistogram {
        let acc = &self.acc;
        let side = |side: &super::SignedBuckets<CompensatedSum>| Buckets {
            spans: side.spans.clone(),
            counts: side.cells.iter().map(|cell| of(*cell)).collect(),
        };
        NativeHistogram {
            schema: acc.schema,
            zero_threshold: acc.zero_threshold,
            zero_count: of(acc.zero),
            count: of(acc.count),
            sum: of(acc.sum),
            hint: acc.hint,
            positive: side(&acc.positive),
            negative: side(&acc.negative),
            bounds: acc.bounds.clone(),
        }
    }

    /// Rebuilds a sum from its parts, which must have the same layout, and
    /// [`HistogramSum::hints_seen`].
    pub fn from_parts(sum: &NativeHistogram, lost: &NativeHistogram, hints: SeenResetHints) -> HistogramSum {
        let mut total = HistogramSum::from_first(sum);
        total.hints = hints;
        let acc = &mut total.acc;
        for (cells, lost) in [
            (&mut acc.positive.cells, &lost.positive.counts),
            (&mut acc.negative.cells, &lost.negative.counts),
        ] {
            for (cell, lost) in cells.iter_mut().zip(lost) {
                cell.lost = *lost;
            }
        }
        acc.zero.lost = lost.zero_count;
        acc.count.lost = lost.count;
        acc.sum.lost = lost.sum;
        total
    }

    /// What the hints of the histograms said.
    pub fn hints_seen(&self) -> SeenResetHints {
        self.hints
    }

    /// Adds another sum.
    ///
    /// # Errors
    /// Custom and exponential buckets cannot be added; then nothing is changed.
    pub fn merge(&mut self, other: &HistogramSum) -> Result<MergeConflicts, HistogramError> {
        // Both parts are added as histograms: what was lost to rounding is not lost by sending it.
        let (sum, lost) = other.to_parts();
        let mut reconciled = self.add(&sum)?;
        reconciled |= self.add(&lost)?;
        self.hints.reset |= other.hints.reset;
        self.hints.not_reset |= other.hints.not_reset;
        Ok(reconciled)
    }
}

impl HistogramMean {
    /// The sum of the histograms; their mean if [`HistogramMean::is_incremental`].
    pub fn sum(&self) -> &HistogramSum {
        &self.acc
    }

    /// Number of histograms.
    pub fn count(&self) -> f64 {
        self.count
    }

    /// Whether the sum has overflowed, so that a mean is kept instead.
    pub fn is_incremental(&self) -> bool {
        self.incremental
    }

    /// Rebuilds a mean from its parts.
    pub fn from_sum(sum: HistogramSum, count: f64, incremental: bool) -> HistogramMean {
        HistogramMean { acc: sum, count, incremental }
    }

    /// Adds the histograms of another mean.
    ///
    /// # Errors
    /// Custom and exponential buckets cannot be added; the mean is useless then.
    pub fn merge(&mut self, other: &HistogramMean) -> Result<MergeConflicts, HistogramError> {
        let count = self.count + other.count;
        if !self.incremental && !other.incremental {
            let mut next = self.acc.clone();
            let reconciled = next.merge(&other.acc)?;
            // Otherwise both become means from here on, and `self` is still as it was.
            if !next.has_overflow() {
                self.acc = next;
                self.count = count;
                return Ok(reconciled);
            }
        }
        let mut part = other.clone();
        part.scale_to_share(count);
        self.scale_to_share(count);
        self.count = count;
        self.incremental = true;
        self.acc.merge(&part.acc)
    }

    /// Scales to the share of these histograms in a mean of `count` histograms.
    fn scale_to_share(&mut self, count: f64) {
        let weight = self.count / count;
        if self.incremental { self.acc.scale(|v| v * weight) } else { self.acc.scale(|v| v / count) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{BucketSpan, ResetHint};
    use super::*;
    use proptest::prelude::*;

    fn histogram(schema: i32, offset: i32, counts: Vec<f64>, sum: f64) -> NativeHistogram {
        let spans = vec![BucketSpan { offset, length: counts.len() as u32 }];
        NativeHistogram {
            schema,
            zero_threshold: 0.001,
            count: counts.iter().sum(),
            sum,
            positive: Buckets { spans, counts },
            ..NativeHistogram::default()
        }
    }

    prop_compose! {
        fn histograms()(parts in prop::collection::vec(
            (0i32..3, -3i32..4, prop::collection::vec(1u8..100, 1..5), -1e3f64..1e3), 1..12,
        )) -> Vec<NativeHistogram> {
            let of = |(schema, offset, counts, sum): (i32, i32, Vec<u8>, f64)| {
                histogram(schema, offset, counts.into_iter().map(f64::from).collect(), sum)
            };
            parts.into_iter().map(of).collect()
        }
    }

    fn sum(of: &[NativeHistogram]) -> HistogramSum {
        let mut sum = HistogramSum::from_first(&of[0]);
        for h in &of[1..] {
            drop(sum.add(h));
        }
        sum
    }

    fn mean(of: &[NativeHistogram]) -> HistogramMean {
        let mut mean = HistogramMean::from_first(&of[0]);
        for h in &of[1..] {
            drop(mean.add(h));
        }
        mean
    }

    fn near(a: &NativeHistogram, b: &NativeHistogram) -> bool {
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * (1.0 + b.abs());
        let mut a = a.clone();
        let mut b = b.clone();
        a.compact();
        b.compact();
        a.schema == b.schema
            && a.positive.spans == b.positive.spans
            && a.positive.counts.iter().zip(&b.positive.counts).all(|(a, b)| close(*a, *b))
            && close(a.sum, b.sum)
            && close(a.count, b.count)
    }

    proptest! {
        #[test]
        fn parts_travel_and_merge(of in histograms(), cut in 0usize..12) {
            let (left, right) = of.split_at(cut.min(of.len() - 1));
            let whole = sum(&of);
            let travelled = |sum: &HistogramSum| {
                let (plain, lost) = sum.to_parts();
                HistogramSum::from_parts(&plain, &lost, sum.hints_seen())
            };
            prop_assert_eq!(travelled(&whole).value(), whole.value());
            if !left.is_empty() {
                let mut merged = travelled(&sum(left));
                merged.merge(&travelled(&sum(right))).expect("one kind of buckets");
                prop_assert!(near(&merged.value(), &whole.value()));
                let mut merged = mean(left);
                merged.merge(&mean(right)).expect("one kind of buckets");
                prop_assert!(near(&merged.value(), &mean(&of).value()));
            }
        }
    }

    #[test]
    fn means_that_would_overflow_stay_finite() {
        let big = |v: f64| histogram(0, 0, vec![v], v);
        let mut merged = mean(&[big(1.5e308)]);
        merged.merge(&mean(&[big(1e308)])).expect("one kind of buckets");
        assert!(merged.is_incremental());
        merged.merge(&mean(&[big(1e308), big(1e308)])).expect("one kind of buckets");
        let value = merged.value();
        assert!((value.sum / 1.125e308 - 1.0).abs() < 1e-12 && value.positive.counts == [value.count]);
    }

    #[test]
    fn what_hints_were_seen_travels() {
        let hinted = |hint| NativeHistogram { hint, ..histogram(0, 0, vec![1.0], 1.0) };
        let mut left = sum(&[hinted(ResetHint::Reset), hinted(ResetHint::Gauge)]);
        assert_eq!(left.hints_seen(), SeenResetHints { reset: true, not_reset: false });
        left.merge(&sum(&[hinted(ResetHint::NotReset)])).expect("one kind of buckets");
        assert!(left.hints_collided());
    }
}
