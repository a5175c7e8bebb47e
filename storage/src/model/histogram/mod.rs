//! Native histograms: one sample that holds counts of observations in many buckets.
//!
//! Exponential buckets (`schema` -4 to 8: a bucket's upper bound is `2^(2^-schema)` times its
//! lower) or custom ones ([`CUSTOM_BUCKETS`]: upper bounds are listed). Counts are floats here; an
//! integer histogram from outside is exact up to 2^53. The layout (spans over counts) is
//! Prometheus', so that what depends on it (printing, equality, compaction) comes out the same. A
//! stale marker is not a histogram: it is the float [`super::value::STALE`].
//!
//! What can be done with one is in this folder, equal to Prometheus to the bit: buckets with their bounds in
//! [`bucket`], `+ - * /` in [`arithmetic`], sums and means of many in [`sums`], resets in [`reset`], the trim
//! operators in [`trim`], texts in [`mod@print`], errors in [`validate`].

mod accumulator;
pub mod arithmetic;
pub mod bounds;
pub mod bucket;
mod bucket_count;
pub mod equality;
pub mod logarithm;
pub mod print;
pub mod reset;
mod signed_buckets;
pub mod sums;
#[cfg(test)]
mod tests;
pub mod trim;
pub mod validate;
mod zero_bucket;

pub use accumulator::MergeConflicts;
pub use bounds::{SCHEMA_MAX, SCHEMA_MIN, upper_bound};
pub use bucket::Bucket;
pub use signed_buckets::BucketIter;
pub use sums::{HistogramMean, HistogramSum};
pub use trim::TrimSide;
pub use validate::HistogramError;

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The `schema` of histograms with custom bucket bounds (NHCB).
pub const CUSTOM_BUCKETS: i32 = -53;

/// One native histogram sample. Immutable once it is shared: samples travel as `Arc<NativeHistogram>`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NativeHistogram {
    /// Resolution: -4 to 8, or [`CUSTOM_BUCKETS`].
    pub schema: i32,
    /// Half width of the zero bucket, at least 0.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// All observations, NaN ones included.
    pub count: f64,
    /// Sum of all observations.
    pub sum: f64,
    /// What is known about a counter reset before this sample.
    pub hint: ResetHint,
    /// Buckets of positive observations; all buckets if they are custom.
    pub positive: Buckets,
    /// Buckets of negative observations.
    pub negative: Buckets,
    /// Upper bounds of custom buckets, ascending, without +Inf; shared by a series' samples.
    pub bounds: Arc<[f64]>,
}

/// Buckets that may hold something: counts, and where they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Buckets {
    /// Stretches of adjacent buckets.
    pub spans: Vec<BucketSpan>,
    /// Count of each bucket of each span, in order (not as differences, not cumulative).
    pub counts: Vec<f64>,
}

/// A stretch of adjacent buckets.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketSpan {
    /// Buckets left out before it; for the first span the index of its first bucket.
    pub offset: i32,
    /// Number of buckets.
    pub length: u32,
}

/// What is known about a counter reset before a sample.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResetHint {
    /// Nothing: compare with the sample before.
    #[default]
    Unknown,
    /// The counter was reset.
    Reset,
    /// It was not.
    NotReset,
    /// It is no counter.
    Gauge,
}

impl NativeHistogram {
    /// Whether its buckets have custom bounds.
    pub fn is_custom(&self) -> bool {
        self.schema == CUSTOM_BUCKETS
    }
}
