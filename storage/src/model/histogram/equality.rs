//! When two histograms are the same data, and how much room one takes.

use super::{BucketSpan, Buckets, NativeHistogram};

/// Bytes of a histogram without buckets, by Prometheus' reckoning.
const FIXED_BYTES: usize = 168;

impl NativeHistogram {
    /// Whether both are the same data, as Prometheus' comparisons and stores see it.
    ///
    /// Counts and sums are compared by their bits, so a NaN equals itself and -0 does not equal 0. Layouts must be
    /// the same bucket by bucket: an empty bucket differs from no bucket, and one span from two that touch; only
    /// spans without buckets do not count. The hint is not compared, nor are bounds of exponential histograms.
    /// Compact both first where the layout must not matter.
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

    /// How many samples it counts as towards the limit of samples of a query.
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

/// The spans that have buckets, their offsets including those of the empty spans before them.
fn populated(spans: &[BucketSpan]) -> impl Iterator<Item = BucketSpan> + '_ {
    let mut before = 0i32;
    spans.iter().filter_map(move |span| {
        let offset = before.wrapping_add(span.offset);
        before = if span.length == 0 { offset } else { 0 };
        (span.length > 0).then_some(BucketSpan { offset, length: span.length })
    })
}
