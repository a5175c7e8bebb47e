//! Equality of histograms, and the size of a histogram in the units of Prometheus' sample limit.

use super::{BucketSpan, Buckets, NativeHistogram};

/// Size of a histogram without buckets as Prometheus counts it, bytes.
const FIXED_BYTES: usize = 168;

impl NativeHistogram {
    /// Whether both have the same data, as defined by Prometheus' comparisons and storage.
    ///
    /// Counts and sums are compared by their bits, so NaN equals NaN and -0 does not equal 0. The
    /// layouts must be the same bucket by bucket: an empty bucket differs from no bucket, and one
    /// span from two adjacent ones; only spans without buckets are ignored. Hints are not compared,
    /// nor the bounds of exponential histograms. Compact both first if the layout must not matter.
    pub fn equals(&self, other: &NativeHistogram) -> bool {
        self.schema == other.schema
            && same_bits(self.count, other.count)
            && same_bits(self.sum, other.sum)
            && (!self.is_custom() || super::accumulator::same_bounds(&self.bounds, &other.bounds))
            && self.zero_threshold == other.zero_threshold
            && same_bits(self.zero_count, other.zero_count)
            && self.negative.equals(&other.negative)
            && self.positive.equals(&other.positive)
    }

    /// The number of samples that it counts for in the sample limit of a query.
    pub fn samples(&self) -> usize {
        let sides = [&self.positive, &self.negative];
        let items: usize = sides.iter().map(|s| s.spans.len() + s.counts.len()).sum();
        (FIXED_BYTES + 8 * (items + self.bounds.len()) + 8) / 16
    }
}

impl Buckets {
    fn equals(&self, other: &Buckets) -> bool {
        self.counts.len() == other.counts.len()
            && self.counts.iter().zip(&other.counts).all(|(a, b)| same_bits(*a, *b))
            && populated(&self.spans).eq(populated(&other.spans))
    }
}

fn same_bits(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits()
}

/// The spans that have buckets; their offsets include those of empty spans before them.
fn populated(spans: &[BucketSpan]) -> impl Iterator<Item = BucketSpan> + '_ {
    let mut before = 0i32;
    spans.iter().filter_map(move |span| {
        let offset = before.wrapping_add(span.offset);
        before = if span.length == 0 { offset } else { 0 };
        (span.length > 0).then_some(BucketSpan { offset, length: span.length })
    })
}
