//! Validation of native histograms that come from outside: scrapes, remote write, imports. Errors
//! have Prometheus' texts, because senders show them to their users.

use super::super::number::general;
use super::bounds::{SCHEMA_MAX, SCHEMA_MIN, is_exponential};
use super::{Buckets, CUSTOM_BUCKETS, NativeHistogram};
use thiserror::Error;

/// Why a histogram, or an operation on it, is refused.
#[derive(Clone, Debug, PartialEq, Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum HistogramError {
    #[error("cannot apply this operation on histograms with a mix of exponential and custom bucket schemas")]
    MixedSchemas,
    #[error("cannot reduce resolution when there are custom buckets")]
    ReduceCustom,
    #[error("cannot reduce resolution to custom buckets schema")]
    ReduceToCustom,
    #[error("cannot reduce resolution from schema {from} to {to}")]
    ReduceToHigher { from: i32, to: i32 },
    #[error(
        "histogram has an invalid schema, which must be between {SCHEMA_MIN} and {SCHEMA_MAX} for exponential buckets, or {CUSTOM_BUCKETS} for custom buckets, got schema {0}"
    )]
    Schema(i32),
    #[error("custom buckets: {0}")]
    Custom(Box<HistogramError>),
    #[error("positive side: {0}")]
    Positive(Box<HistogramError>),
    #[error("negative side: {0}")]
    Negative(Box<HistogramError>),
    #[error("span number {0} with offset {1}: histogram has a span whose offset is negative")]
    NegativeOffset(usize, i32),
    #[error(
        "spans need {0} buckets, have {1} buckets: histogram spans specify different number of buckets than provided"
    )]
    SpansMismatch(u64, usize),
    #[error(
        "have {0} buckets but spans need more: histogram spans specify different number of buckets than provided"
    )]
    BucketsMissing(usize),
    #[error("bucket number {0} has observation count of {n}: histogram has a bucket whose observation count is negative", n = general(*.1))]
    NegativeBucket(usize, f64),
    #[error("zero bucket has observation count of {n}: histogram has a bucket whose observation count is negative", n = general(*.0))]
    NegativeZero(f64),
    #[error("observation count is  {n}: histogram's observation count is negative", n = general(*.0))]
    NegativeCount(f64),
    #[error("custom buckets: must have zero count of 0")]
    CustomZeroCount,
    #[error("custom buckets: must have zero threshold of 0")]
    CustomZeroThreshold,
    #[error("custom buckets: must not have negative spans")]
    CustomNegativeSpans,
    #[error("custom buckets: must not have negative buckets")]
    CustomNegativeBuckets,
    #[error("histogram with exponential schema must not have custom bounds")]
    ExponentialWithBounds,
    #[error("histogram custom bounds must not be NaN")]
    BoundNaN,
    #[error(
        "previous bound is {0:.6} and current is {1:.6}: histogram custom bounds must be in strictly increasing order"
    )]
    BoundOrder(f64, f64),
    #[error("last +Inf bound must not be explicitly defined: histogram custom bounds must be finite")]
    BoundInfinite,
    #[error(
        "only {0} custom bounds defined which is insufficient to cover total span length of {1}: histogram custom bounds are too few"
    )]
    BoundsTooFew(usize, i64),
}

use HistogramError as E;

impl NativeHistogram {
    /// Checks that it is well-formed: spans and buckets fit, counts are not negative, and fields
    /// that its kind of buckets does not use are empty. The counts need not add up, because of
    /// rounding.
    pub fn validate(&self) -> Result<(), HistogramError> {
        if self.is_custom() {
            self.check_custom()?;
        } else if is_exponential(self.schema) {
            self.check_exponential()?;
        } else {
            return Err(E::Schema(self.schema));
        }
        if self.count < 0.0 {
            return Err(E::NegativeCount(self.count));
        }
        check_counts(&self.positive).map_err(|e| E::Positive(e.into()))
    }

    fn check_custom(&self) -> Result<(), HistogramError> {
        check_bounds(&self.bounds, &self.positive).map_err(|e| E::Custom(e.into()))?;
        if self.zero_count != 0.0 {
            return Err(E::CustomZeroCount);
        }
        if self.zero_threshold != 0.0 {
            return Err(E::CustomZeroThreshold);
        }
        if !self.negative.spans.is_empty() {
            return Err(E::CustomNegativeSpans);
        }
        if self.negative.counts.is_empty() { Ok(()) } else { Err(E::CustomNegativeBuckets) }
    }

    fn check_exponential(&self) -> Result<(), HistogramError> {
        check_spans(&self.positive).map_err(|e| E::Positive(e.into()))?;
        check_spans(&self.negative).map_err(|e| E::Negative(e.into()))?;
        check_counts(&self.negative).map_err(|e| E::Negative(e.into()))?;
        if self.zero_count < 0.0 {
            return Err(E::NegativeZero(self.zero_count));
        }
        if self.bounds.is_empty() { Ok(()) } else { Err(E::ExponentialWithBounds) }
    }
}

/// Checks that the spans have as many buckets as there are counts, and ascend.
pub(super) fn check_spans(buckets: &Buckets) -> Result<(), HistogramError> {
    // The first offset is a position, and may be negative; all others are gaps.
    for (n, span) in buckets.spans.iter().enumerate().skip(1) {
        if span.offset < 0 {
            return Err(E::NegativeOffset(n + 1, span.offset));
        }
    }
    let needed: u64 = buckets.spans.iter().map(|s| u64::from(s.length)).sum();
    if needed == buckets.counts.len() as u64 {
        Ok(())
    } else {
        Err(E::SpansMismatch(needed, buckets.counts.len()))
    }
}

fn check_counts(buckets: &Buckets) -> Result<(), HistogramError> {
    match buckets.counts.iter().position(|c| *c < 0.0) {
        Some(i) => Err(E::NegativeBucket(i + 1, buckets.counts[i])),
        None => Ok(()),
    }
}

fn check_bounds(bounds: &[f64], buckets: &Buckets) -> Result<(), HistogramError> {
    let mut previous = f64::NEG_INFINITY;
    for (i, bound) in bounds.iter().enumerate() {
        if bound.is_nan() {
            return Err(E::BoundNaN);
        }
        // The first bound may be minus infinity.
        if i > 0 && *bound <= previous {
            return Err(E::BoundOrder(previous, *bound));
        }
        previous = *bound;
    }
    if previous == f64::INFINITY {
        return Err(E::BoundInfinite);
    }
    if let Some(span) = buckets.spans.first().filter(|s| s.offset < 0) {
        return Err(E::NegativeOffset(1, span.offset));
    }
    check_spans(buckets)?;
    // One bucket more than bounds: the last one is that up to infinity, which has no bound.
    let covered: i64 = buckets.spans.iter().map(|s| i64::from(s.offset) + i64::from(s.length)).sum();
    if bounds.len() as i64 + 1 < covered { Err(E::BoundsTooFew(bounds.len(), covered)) } else { Ok(()) }
}
