//! Native histograms: one sample that has the counts of observations in many buckets.
//!
//! Buckets are exponential (`schema` -4 to 8: a bucket's upper bound is `2^(2^-schema)` times its
//! lower bound) or custom ([`CUSTOM_BUCKETS`]: the upper bounds are listed). Counts are floats;
//! integer histograms from outside are exact up to 2^53. The layout (spans over counts) is that of
//! Prometheus, so that everything that depends on it (printing, equality, compaction) gives the
//! same result. A stale marker is not a histogram, but the float [`super::value::STALE`].
//!
//! The operations equal those of Prometheus to the last bit: buckets and bounds ([`bucket`]), `+ -
//! * /` ([`arithmetic`]), sums and means ([`sums`]), resets ([`reset`]), trim operators ([`trim`]),
//! printing ([`mod@print`]), validation ([`validate`]).

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
pub use sums::{HistogramMean, HistogramSum, SeenResetHints};
pub use trim::TrimSide;
pub use validate::HistogramError;

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The `schema` of histograms with custom bucket bounds (NHCB).
pub const CUSTOM_BUCKETS: i32 = -53;

/// One native histogram sample. Immutable once it is shared: samples travel as
/// `Arc<NativeHistogram>`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NativeHistogram {
    /// Resolution: -4 to 8, or [`CUSTOM_BUCKETS`].
    pub schema: i32,
    /// Half the width of the zero bucket, at least 0.
    pub zero_threshold: f64,
    /// Number of observations in the zero bucket.
    pub zero_count: f64,
    /// Number of all observations, including NaN.
    pub count: f64,
    /// Sum of all observations.
    pub sum: f64,
    /// What is known about a counter reset before this sample.
    pub hint: ResetHint,
    /// Buckets of positive observations; all buckets if they are custom.
    pub positive: Buckets,
    /// Buckets of negative observations.
    pub negative: Buckets,
    /// Upper bounds of custom buckets, ascending, without +Inf. The samples of a series share one
    /// allocation.
    pub bounds: Arc<[f64]>,
}

/// Buckets of one sign: their counts and positions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Buckets {
    /// Runs of adjacent buckets.
    pub spans: Vec<BucketSpan>,
    /// The count of each bucket of each span, in order; neither deltas nor cumulative.
    pub counts: Vec<f64>,
}

/// A run of adjacent buckets.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketSpan {
    /// Number of buckets skipped before the span; for the first span the index of its first bucket.
    pub offset: i32,
    /// Number of buckets.
    pub length: u32,
}

/// What is known about a counter reset before a sample.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResetHint {
    /// Nothing: it must be compared with the sample before.
    #[default]
    Unknown,
    /// The counter was reset.
    Reset,
    /// The counter was not reset.
    NotReset,
    /// It is not a counter.
    Gauge,
}

impl NativeHistogram {
    /// Whether the buckets have custom bounds.
    pub fn is_custom(&self) -> bool {
        self.schema == CUSTOM_BUCKETS
    }
}
