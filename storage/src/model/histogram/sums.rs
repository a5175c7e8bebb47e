//! Sums and means of many histograms, for aggregation operators and `*_over_time` functions.
//!
//! Each bucket, the count and the sum are compensated separately (Neumaier). A mean is the sum
//! divided by the number of histograms; when the sum overflows, it becomes an incremental mean. The
//! order of operations, and the layout of the result (not compacted), are those of Prometheus.

mod parts;

use super::accumulator::{Accumulator, MergeConflicts, Sign};
use super::bounds::{exponential, is_exponential};
use super::bucket_count::{BucketCount, CompensatedSum};
use super::signed_buckets::SignedBuckets;
use super::{Buckets, CUSTOM_BUCKETS, HistogramError, NativeHistogram, ResetHint};

/// A sum of histograms.
#[derive(Clone, Debug)]
pub struct HistogramSum {
    acc: Accumulator<CompensatedSum>,
    hints: SeenResetHints,
    bounds_reconciled: bool,
}

/// Which reset hints the histograms had.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenResetHints {
    /// Any said that a counter was reset.
    pub reset: bool,
    /// Any said that none was.
    pub not_reset: bool,
}

impl SeenResetHints {
    fn see(&mut self, hint: ResetHint) {
        self.reset |= hint == ResetHint::Reset;
        self.not_reset |= hint == ResetHint::NotReset;
    }
}

impl HistogramSum {
    /// A sum with `first` as its first histogram.
    pub fn from_first(first: &NativeHistogram) -> HistogramSum {
        let acc = Accumulator {
            schema: first.schema,
            zero_threshold: first.zero_threshold,
            zero: CompensatedSum::from_value(first.zero_count),
            count: CompensatedSum::from_value(first.count),
            sum: CompensatedSum::from_value(first.sum),
            hint: first.hint,
            positive: SignedBuckets::from_buckets(&first.positive),
            negative: SignedBuckets::from_buckets(&first.negative),
            bounds: first.bounds.clone(),
        };
        let mut hints = SeenResetHints::default();
        hints.see(first.hint);
        HistogramSum { acc, hints, bounds_reconciled: false }
    }

    /// Adds a histogram.
    ///
    /// # Errors
    /// Custom and exponential buckets cannot be added; then nothing is changed.
    pub fn add(&mut self, other: &NativeHistogram) -> Result<MergeConflicts, HistogramError> {
        let reconciled = self.acc.merge(other, Sign::Plus)?;
        self.hints.see(other.hint);
        self.bounds_reconciled |= reconciled.bounds;
        Ok(reconciled)
    }

    /// Whether some hints said that a counter was reset and others that it was not, even if a gauge
    /// or an unknown hint was between them.
    pub fn hints_collided(&self) -> bool {
        self.hints.reset && self.hints.not_reset
    }

    /// Whether any custom bounds differed.
    pub fn bounds_reconciled(&self) -> bool {
        self.bounds_reconciled
    }

    /// The compensated sum, not compacted.
    pub fn value(&self) -> NativeHistogram {
        let acc = &self.acc;
        NativeHistogram {
            schema: acc.schema,
            zero_threshold: acc.zero_threshold,
            // Custom buckets have no zero bucket. It must stay 0 even if 0 times infinity would
            // make it NaN.
            zero_count: if acc.schema == CUSTOM_BUCKETS { 0.0 } else { acc.zero.value() },
            count: acc.count.value(),
            sum: acc.sum.value(),
            hint: acc.hint,
            positive: buckets(acc, &acc.positive),
            negative: buckets(acc, &acc.negative),
            bounds: acc.bounds.clone(),
        }
    }

    fn scale(&mut self, f: impl Fn(f64) -> f64) {
        let acc = &mut self.acc;
        let cells = acc.positive.cells.iter_mut().chain(&mut acc.negative.cells);
        for cell in cells.chain([&mut acc.zero, &mut acc.count, &mut acc.sum]) {
            *cell = cell.map(&f);
        }
    }

    fn has_overflow(&self) -> bool {
        let acc = &self.acc;
        let mut cells = acc.positive.cells.iter().chain(&acc.negative.cells);
        [acc.zero, acc.count, acc.sum].iter().any(|c| c.sum.is_infinite())
            || cells.any(|c| c.sum.is_infinite())
    }
}

/// The buckets with their compensation. Those at the beginning within the zero bucket are returned
/// without it, as in Prometheus.
fn buckets(acc: &Accumulator<CompensatedSum>, side: &SignedBuckets<CompensatedSum>) -> Buckets {
    let mut below = is_exponential(acc.schema);
    let value = |(index, cell): (i32, CompensatedSum)| {
        below = below && exponential(index, acc.schema) <= acc.zero_threshold;
        if below { cell.plain() } else { cell.value() }
    };
    Buckets { spans: side.spans.clone(), counts: side.iter().map(value).collect() }
}

/// A mean of histograms.
#[derive(Clone, Debug)]
pub struct HistogramMean {
    /// The sum of the histograms; their mean if `incremental`.
    acc: HistogramSum,
    count: f64,
    incremental: bool,
}

impl HistogramMean {
    /// The mean of one histogram.
    pub fn from_first(first: &NativeHistogram) -> HistogramMean {
        HistogramMean { acc: HistogramSum::from_first(first), count: 1.0, incremental: false }
    }

    /// Adds a histogram.
    ///
    /// # Errors
    /// Custom and exponential buckets cannot be added; the mean is useless then.
    pub fn add(&mut self, other: &NativeHistogram) -> Result<MergeConflicts, HistogramError> {
        self.count += 1.0;
        if !self.incremental {
            let mut next = self.acc.clone();
            let reconciled = next.add(other)?;
            if !next.has_overflow() {
                self.acc = next;
                return Ok(reconciled);
            }
            let before = self.count - 1.0;
            self.acc.scale(|v| v / before);
            self.incremental = true;
        }
        let share = (self.count - 1.0) / self.count;
        self.acc.scale(|v| v * share);
        let mut part = other.clone();
        part.div(self.count);
        self.acc.add(&part)
    }

    /// As [`HistogramSum::hints_collided`].
    pub fn hints_collided(&self) -> bool {
        self.acc.hints_collided()
    }

    /// As [`HistogramSum::bounds_reconciled`].
    pub fn bounds_reconciled(&self) -> bool {
        self.acc.bounds_reconciled()
    }

    /// The mean, not compacted.
    pub fn value(&self) -> NativeHistogram {
        if self.incremental {
            return self.acc.value();
        }
        let mut mean = self.acc.clone();
        mean.scale(|v| v / self.count);
        mean.value()
    }
}
