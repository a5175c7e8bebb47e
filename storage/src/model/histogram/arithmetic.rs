//! Arithmetic on histograms: `+`, `-`, and multiplication or division of all counts and the sum.
//!
//! These are the operations of PromQL's binary operators and of `rate`, without compensation.
//! Finishing the result (compaction, the hint `Gauge` after `-`) is left to the caller, because
//! rates and operators do it differently.

use super::accumulator::{Accumulator, MergeConflicts, Sign};
use super::{Buckets, HistogramError, NativeHistogram, ResetHint};

impl NativeHistogram {
    /// Adds `other`. The result has the lower resolution and the wider zero bucket of the two, or
    /// the custom bounds that both have. It may have empty buckets and adjacent spans;
    /// [`NativeHistogram::compact`] removes them.
    ///
    /// # Errors
    /// One histogram has custom buckets and the other exponential ones; then nothing is changed.
    pub fn add(&mut self, other: &NativeHistogram) -> Result<MergeConflicts, HistogramError> {
        self.merge(other, Sign::Plus)
    }

    /// Subtracts `other`, as [`NativeHistogram::add`] adds it. The reset hint is that of an
    /// addition; PromQL's `-` then sets it to `Gauge`.
    pub fn sub(&mut self, other: &NativeHistogram) -> Result<MergeConflicts, HistogramError> {
        self.merge(other, Sign::Minus)
    }

    fn merge(&mut self, other: &NativeHistogram, sign: Sign) -> Result<MergeConflicts, HistogramError> {
        let mut accumulator = Accumulator::from(std::mem::take(self));
        let reconciled = accumulator.merge(other, sign);
        *self = accumulator.into();
        reconciled
    }

    /// Multiplies all counts and the sum. A negative factor sets the hint to `Gauge`.
    pub fn mul(&mut self, factor: f64) {
        self.scale(|v| v * factor);
        if factor < 0.0 {
            self.hint = ResetHint::Gauge;
        }
    }

    /// Divides all counts and the sum. A negative divisor sets the hint to `Gauge`; division by 0
    /// removes all buckets except the zero bucket.
    pub fn div(&mut self, divisor: f64) {
        if divisor == 0.0 {
            self.positive = Buckets::default();
            self.negative = Buckets::default();
        }
        self.scale(|v| v / divisor);
        if divisor < 0.0 {
            self.hint = ResetHint::Gauge;
        }
    }

    /// Changes the sign of all counts and the sum, and sets the hint to `Gauge`.
    pub fn negate(&mut self) {
        self.mul(-1.0);
    }

    fn scale(&mut self, f: impl Fn(f64) -> f64) {
        // Custom buckets have no zero bucket. It must stay 0 even if 0 times infinity would make it
        // NaN.
        let zero_count = if self.is_custom() { None } else { Some(&mut self.zero_count) };
        for v in [&mut self.count, &mut self.sum].into_iter().chain(zero_count) {
            *v = f(*v);
        }
        for v in self.positive.counts.iter_mut().chain(&mut self.negative.counts) {
            *v = f(*v);
        }
    }

    /// Removes empty buckets and merges adjacent spans.
    pub fn compact(&mut self) {
        self.positive.compact();
        self.negative.compact();
    }

    /// Converts to the wider buckets of a lower schema; with the same schema, a copy. As in
    /// Prometheus, the hint is lost when the resolution is lowered.
    pub fn to_schema(&self, schema: i32) -> Result<NativeHistogram, HistogramError> {
        if schema == self.schema {
            return Ok(self.clone());
        }
        let mut copy = self.clone();
        copy.reduce_resolution(schema)?;
        copy.hint = ResetHint::Unknown;
        Ok(copy)
    }

    /// Lowers the resolution in place.
    ///
    /// # Errors
    /// `schema` is not a lower exponential schema, or the spans do not fit the buckets; then
    /// nothing is changed.
    pub fn reduce_resolution(&mut self, schema: i32) -> Result<(), HistogramError> {
        if self.is_custom() {
            return Err(HistogramError::ReduceCustom);
        }
        if schema == super::CUSTOM_BUCKETS {
            return Err(HistogramError::ReduceToCustom);
        }
        if schema >= self.schema {
            return Err(HistogramError::ReduceToHigher { from: self.schema, to: schema });
        }
        let positive = self.positive.reduced(self.schema, schema)?;
        let negative = self.negative.reduced(self.schema, schema)?;
        self.positive = positive;
        self.negative = negative;
        self.schema = schema;
        Ok(())
    }
}

impl Buckets {
    fn compact(&mut self) {
        let mut side = super::signed_buckets::SignedBuckets::from(std::mem::take(self));
        side.compact();
        *self = side.into();
    }

    fn reduced(&self, from: i32, to: i32) -> Result<Buckets, HistogramError> {
        super::validate::check_spans(self).map_err(|e| match e {
            HistogramError::SpansMismatch(needed, have) if needed > have as u64 => {
                HistogramError::BucketsMissing(have)
            }
            e => e,
        })?;
        Ok(super::signed_buckets::SignedBuckets::<f64>::from_buckets(self).reduced(from, to).into())
    }
}
