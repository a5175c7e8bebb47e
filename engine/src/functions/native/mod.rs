//! Kernels over one native histogram: quantile, fraction, moments.
//!
//! Plain functions from a histogram to a number, with a note where observations of NaN changed the answer. Which
//! samples they are given and how the notes become annotations is the operators' affair. Sums, means and the trim
//! operators are in [`storage::model::histogram`]; classic histograms are in [`super::histogram`].

mod fraction;
mod moments;
mod quantile;
#[cfg(test)]
mod tests;

pub use fraction::{Fraction, fraction};
pub use moments::{count, mean, standard_deviation, sum, variance};
pub use quantile::{NanObservations, Quantile, quantile};

use storage::model::NativeHistogram;
use storage::model::histogram::Bucket;

/// A zero bucket reaches to one side of zero only, if the histogram has no buckets on the other.
fn one_sided(h: &NativeHistogram, bucket: &mut Bucket) {
    match (h.negative.is_empty(), h.positive.is_empty()) {
        (true, false) => bucket.lower = 0.0,
        (false, true) => bucket.upper = 0.0,
        _ => {}
    }
}
