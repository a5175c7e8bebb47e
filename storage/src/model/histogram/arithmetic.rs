//! Arithmetic on histograms: `+`, `-`, and a factor or divisor for all counts and the sum.
//!
//! These are the operations of PromQL's binary operators and of rates, without compensation. What a
//! result must still go through (compaction, a gauge hint after `-`) is its caller's affair,
//! because rates do other things with it than operators do.

use super::accumulator::{Accumulator, MergeConflicts, Sign};
use super::{Buckets, HistogramError, NativeHistogram, ResetHint};

impl NativeHistogram {
    /// Adds `other`: the result has the lower resolution and the wider zero bucket of both, or the
    /// custom bounds that both have. Fails, changing nothing, where one has custom and the other
    /// exponential buckets.
    ///
    /// The result may have empty buckets and spans that touch; [`NativeHistogram::compact`] removes them.
    pub fn add(&mut self, other: &NativeHistogram) -> Result<MergeConflicts, HistogramError> {
        self.merge(other, Sign::Plus)
    }

    /// Takes `other` away, as [`NativeHistogram::add`]. The reset hint is that of an addition; the
    /// caller of PromQL's `-` makes it `Gauge`.
    pub fn sub(&mut self, other: &NativeHistogram) -> Result<MergeConflicts, HistogramError> {
        self.merge(other, Sign::Minus)
    }

    fn merge(&mut self, other: &NativeHistogram, sign: Sign) -> Result<MergeConflicts, HistogramError> {
        let mut accumulator = Accumulator::from(std::mem::take(self));
        let reconciled = accumulator.merge(other, sign);
        *self = accumulator.into();
        reconciled
    }

    /// Multiplies all counts and the sum. A negative factor makes it a gauge.
    pub fn mul(&mut self, factor: f64) {
        self.scale(|v| v * factor);
        if factor < 0.0 {
            self.hint = ResetHint::Gauge;
        }
    }

    /// Divides all counts and the sum. A negative divisor makes it a gauge; 0 removes all buckets
    /// but the zero bucket.
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

    /// Changes the sign of all counts and the sum, and makes it a gauge.
    pub fn negate(&mut self) {
        self.mul(-1.0);
    }

    fn scale(&mut self, f: impl Fn(f64) -> f64) {
        // Custom buckets have no zero bucket, also where 0 times infinity is no 0.
        let zero_count = if self.is_custom() { None } else { Some(&mut self.zero_count) };
        for v in [&mut self.count, &mut self.sum].into_iter().chain(zero_count) {
            *v = f(*v);
        }
        for v in self.positive.counts.iter_mut().chain(&mut self.negative.counts) {
            *v = f(*v);
        }
    }

    /// Removes empty buckets, and merges spans that touch.
    pub fn compact(&mut self) {
        self.positive.compact();
        self.negative.compact();
    }

    /// The same observations in the wider buckets of a lower schema; a copy if it is the same
    /// schema. As upstream, the hint is lost with the resolution.
    pub fn to_schema(&self, schema: i32) -> Result<NativeHistogram, HistogramError> {
        if schema == self.schema {
            return Ok(self.clone());
        }
        let mut copy = self.clone();
        copy.reduce_resolution(schema)?;
        copy.hint = ResetHint::Unknown;
        Ok(copy)
    }

    /// Lowers the resolution in place. Fails, changing nothing, unless `schema` is a lower
    /// exponential one and the spans fit the buckets.
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
        (self.positive, self.negative, self.schema) = (positive, negative, schema);
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
        Ok(super::signed_buckets::SignedBuckets::<f64>::of(self).reduced(from, to).into())
    }
}
