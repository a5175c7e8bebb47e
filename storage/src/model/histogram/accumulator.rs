//! Adds histograms: first schemas, zero buckets, custom bounds and reset hints are reconciled, then
//! the counts are added.
//!
//! One algorithm serves plain and compensated counts ([`BucketCount`]). [`super::arithmetic`] uses
//! plain counts, [`super::sums`] compensated ones. The order of floating-point operations is that
//! of Prometheus, so that results are equal to the last bit.

use super::bucket_count::{BucketCount, CompensatedSum};
use super::signed_buckets::{SignedBuckets, from_dense, map_custom};
use super::zero_bucket::{ZeroBucket, clear_below, widened};
use super::{Buckets, HistogramError, NativeHistogram, ResetHint};
use std::sync::Arc;

/// What had to be reconciled when two histograms were added: each is reported as an annotation.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct MergeConflicts {
    /// One hint said that the counter was reset, the other that it was not. The result has the hint
    /// `Unknown`.
    pub hints_collided: bool,
    /// Custom bounds differed. The result has the bounds that are in both.
    pub bounds: bool,
}

impl std::ops::BitOrAssign for MergeConflicts {
    fn bitor_assign(&mut self, other: MergeConflicts) {
        self.hints_collided |= other.hints_collided;
        self.bounds |= other.bounds;
    }
}

/// A histogram to which others are added.
#[derive(Clone, Debug)]
pub(super) struct Accumulator<C> {
    pub schema: i32,
    pub zero_threshold: f64,
    pub zero: C,
    pub count: C,
    pub sum: C,
    pub hint: ResetHint,
    pub positive: SignedBuckets<C>,
    pub negative: SignedBuckets<C>,
    pub bounds: Arc<[f64]>,
}

impl From<NativeHistogram> for Accumulator<f64> {
    fn from(h: NativeHistogram) -> Accumulator<f64> {
        Accumulator {
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            zero: h.zero_count,
            count: h.count,
            sum: h.sum,
            hint: h.hint,
            positive: h.positive.into(),
            negative: h.negative.into(),
            bounds: h.bounds,
        }
    }
}

impl From<Accumulator<f64>> for NativeHistogram {
    fn from(a: Accumulator<f64>) -> NativeHistogram {
        NativeHistogram {
            schema: a.schema,
            zero_threshold: a.zero_threshold,
            zero_count: a.zero,
            count: a.count,
            sum: a.sum,
            hint: a.hint,
            positive: a.positive.into(),
            negative: a.negative.into(),
            bounds: a.bounds,
        }
    }
}

/// Whether `other` is added or subtracted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Plus,
    Minus,
}

impl Sign {
    fn apply(self, value: f64) -> f64 {
        match self {
            Sign::Plus => value,
            Sign::Minus => -value,
        }
    }
}

impl<C: BucketCount> Accumulator<C> {
    /// Adds or subtracts `other`. The result may have empty buckets and adjacent spans.
    ///
    /// # Errors
    /// One histogram has custom buckets and the other exponential ones; then nothing is changed.
    pub(super) fn merge(
        &mut self,
        other: &NativeHistogram,
        sign: Sign,
    ) -> Result<MergeConflicts, HistogramError> {
        let custom = self.schema == super::CUSTOM_BUCKETS;
        // Their buckets have no bounds in common, so no sum of them means anything.
        if custom != other.is_custom() {
            return Err(HistogramError::MixedSchemas);
        }
        let hints_collided = self.merge_hint(other.hint);
        if !custom {
            let zero = self.reconcile_zero(other);
            self.zero.add(C::from_compensated(zero.map(|v| sign.apply(v))));
        }
        self.count.add(C::from_value(sign.apply(other.count)));
        self.sum.add(C::from_value(sign.apply(other.sum)));
        let bounds =
            if custom { self.merge_custom(other, sign) } else { self.merge_exponential(other, sign) };
        Ok(MergeConflicts { hints_collided, bounds })
    }

    /// Sets the hint of the result. Returns whether the two hints contradict each other.
    fn merge_hint(&mut self, other: ResetHint) -> bool {
        use ResetHint::{Gauge, Unknown};
        let (hint, collided) = match (self.hint, other) {
            (a, b) if a == b => (a, false),
            // A gauge has no resets, so a sum with one has none either.
            (Gauge, _) | (_, Gauge) => (Gauge, false),
            (Unknown, _) | (_, Unknown) => (Unknown, false),
            _ => (Unknown, true),
        };
        self.hint = hint;
        collided
    }

    fn merge_custom(&mut self, other: &NativeHistogram, sign: Sign) -> bool {
        let signed = || other.positive.iter().map(|(index, count)| (index, C::from_value(sign.apply(count))));
        if same_bounds(&self.bounds, &other.bounds) {
            self.positive.add(self.schema, self.zero_threshold, signed());
            return false;
        }
        let common = common_bounds(&self.bounds, &other.bounds);
        let mut cells = vec![CompensatedSum::default(); common.len() + 1];
        map_custom(&mut cells, self.positive.iter(), &self.bounds, &common);
        map_custom(&mut cells, signed(), &other.bounds, &common);
        self.positive = from_dense(&cells);
        self.bounds = common.into();
        true
    }

    fn merge_exponential(&mut self, other: &NativeHistogram, sign: Sign) -> bool {
        // The lower resolution is the one that both can have: buckets can be joined, not split.
        if other.schema < self.schema {
            self.positive = self.positive.reduced(self.schema, other.schema);
            self.negative = self.negative.reduced(self.schema, other.schema);
            self.schema = other.schema;
        }
        for (side, buckets) in [(&mut self.positive, &other.positive), (&mut self.negative, &other.negative)]
        {
            add_buckets(side, (self.schema, self.zero_threshold), buckets, other.schema, sign);
        }
        false
    }

    /// Widens both zero buckets until they have the same width and do not cut through a populated
    /// bucket. Changes `self`; returns the zero count that `other` would have.
    fn reconcile_zero(&mut self, other: &NativeHistogram) -> CompensatedSum {
        let mut zero = CompensatedSum::from_value(other.zero_count);
        let mut threshold = other.zero_threshold;
        // A loop: widening one zero bucket to the end of a populated bucket may make it wider than
        // the other, which then has to follow. It ends, because both only grow and there are
        // finitely many buckets.
        while threshold != self.zero_threshold {
            // Both may be needed in one pass, in this order, as in Prometheus.
            if self.zero_threshold > threshold {
                (zero, threshold) = other.widened_zero(self.zero_threshold);
            }
            if threshold > self.zero_threshold {
                let own = ZeroBucket {
                    schema: self.schema,
                    threshold: self.zero_threshold,
                    count: self.zero.compensated(),
                };
                let (own, wider) = widened(own, self.positive.iter(), self.negative.iter(), threshold);
                self.zero = C::from_compensated(own);
                self.zero_threshold = wider;
                clear_below(&mut self.positive, self.schema, wider);
                clear_below(&mut self.negative, self.schema, wider);
            } else if threshold.is_nan() || self.zero_threshold.is_nan() {
                break; // no threshold is ever NaN; if one is, it must not keep this loop going
            }
        }
        zero
    }
}

/// Adds buckets of `other_schema` to a side; `own` is its schema (not a higher one) and zero
/// threshold.
fn add_buckets<C: BucketCount>(
    side: &mut SignedBuckets<C>,
    own: (i32, f64),
    buckets: &Buckets,
    other_schema: i32,
    sign: Sign,
) {
    let (schema, threshold) = own;
    if other_schema == schema {
        return side.add(schema, threshold, buckets.iter().map(|(i, c)| (i, C::from_value(sign.apply(c)))));
    }
    let mut reduced = SignedBuckets::<C>::from_buckets(buckets).reduced(other_schema, schema);
    // After the reduction: Prometheus joins the buckets first, and the order of additions decides
    // about the last bit.
    if sign == Sign::Minus {
        for c in &mut reduced.cells {
            *c = C::from_compensated(c.compensated().map(|v| -v));
        }
    }
    side.add(schema, threshold, reduced.iter());
}

/// Whether two lists of custom bounds are equal.
pub(super) fn same_bounds(a: &Arc<[f64]>, b: &Arc<[f64]>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

/// The bounds that are in both lists, which are ascending.
fn common_bounds(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut rest = b.iter().peekable();
    let mut common = Vec::new();
    for bound in a {
        while rest.next_if(|other| **other < *bound).is_some() {}
        if rest.next_if(|other| **other == *bound).is_some() {
            common.push(*bound);
        }
    }
    common
}
