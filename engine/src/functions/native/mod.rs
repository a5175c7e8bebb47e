//! Kernels for one native histogram: quantile, fraction, moments.
//!
//! These are plain functions from a histogram to a number, with a flag if NaN observations changed
//! the result. The operators choose the samples and make annotations of the flags. Sums, means and
//! the trim operators are in [`storage::model::histogram`]; classic histograms are in
//! [`super::histogram`].

mod fraction;
mod moments;
mod quantile;
#[cfg(test)]
mod tests;

pub use fraction::{NativeFraction, fraction};
pub use moments::{count, mean, standard_deviation, sum, variance};
pub use quantile::{NanObservations, NativeQuantile, quantile};

use storage::model::NativeHistogram;
use storage::model::histogram::Bucket;

/// If the histogram has buckets on one side of zero only, its zero bucket ends at zero on the other
/// side.
fn one_sided(h: &NativeHistogram, bucket: &mut Bucket) {
    match (h.negative.is_empty(), h.positive.is_empty()) {
        (true, false) => bucket.lower = 0.0,
        (false, true) => bucket.upper = 0.0,
        _ => {}
    }
}
