//! Native histograms beside a column of floats: where a row's value is
//! [`storage::model::value::HISTOGRAM`], its histogram is here. A column that never had one is
//! empty, so floats cost only a length check.

use crate::heap_size::HeapSize;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use storage::model::NativeHistogram;
use storage::model::value::{is_absent, is_histogram};

/// Histograms by row.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HistogramColumn(Vec<Option<Arc<NativeHistogram>>>);

impl HeapSize for HistogramColumn {
    fn heap(&self) -> usize {
        self.0.heap()
    }
}

/// The sample of one row at one time, borrowed.
#[derive(Copy, Clone, Debug)]
pub enum SampleRef<'a> {
    /// No sample.
    Absent,
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(&'a Arc<NativeHistogram>),
}

/// A sample of either kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    /// A float; ABSENT if there is no sample.
    Float(f64),
    /// A native histogram.
    Histogram(Arc<NativeHistogram>),
}

impl Sample {
    /// The float; NaN for a histogram.
    pub fn float(&self) -> f64 {
        match self {
            Sample::Float(v) => *v,
            Sample::Histogram(_) => f64::NAN,
        }
    }

    /// Whether both are equal bit by bit.
    pub fn same(&self, other: &Sample) -> bool {
        match (self, other) {
            (Sample::Float(a), Sample::Float(b)) => a.to_bits() == b.to_bits(),
            (Sample::Histogram(a), Sample::Histogram(b)) => identical(a, b),
            _ => false,
        }
    }
}

impl From<f64> for Sample {
    fn from(v: f64) -> Sample {
        Sample::Float(v)
    }
}

impl SampleRef<'_> {
    /// The sample, if there is one.
    pub fn sample(self) -> Option<Sample> {
        match self {
            SampleRef::Absent => None,
            SampleRef::Float(v) => Some(Sample::Float(v)),
            SampleRef::Histogram(h) => Some(Sample::Histogram(h.clone())),
        }
    }
}

impl HistogramColumn {
    /// Whether the column never had a histogram. It may be `false` for a column whose histograms
    /// were all removed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The histogram of a row.
    #[inline]
    pub fn get(&self, row: usize) -> Option<&Arc<NativeHistogram>> {
        self.0.get(row).and_then(Option::as_ref)
    }

    /// Sets or removes the histogram of a row; the column grows as needed.
    pub fn set(&mut self, row: usize, histogram: Option<Arc<NativeHistogram>>) {
        if self.0.len() <= row {
            if histogram.is_none() {
                return;
            }
            self.0.resize(row + 1, None);
        }
        self.0[row] = histogram;
    }

    /// Removes all histograms.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The sample of row `row`, whose value is `v`.
    #[inline]
    pub fn cell(&self, row: usize, value: f64) -> SampleRef<'_> {
        match self.get(row).filter(|_| is_histogram(value)) {
            Some(histogram) => SampleRef::Histogram(histogram),
            None if is_absent(value) || is_histogram(value) => SampleRef::Absent,
            None => SampleRef::Float(value),
        }
    }

    /// The rows with a histogram, in order.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Arc<NativeHistogram>)> {
        self.0.iter().enumerate().filter_map(|(row, histogram)| Some((row, histogram.as_ref()?)))
    }
}

/// Whether two histograms are equal bit by bit, including hints. Decides whether a row has changed.
pub fn identical(a: &Arc<NativeHistogram>, b: &Arc<NativeHistogram>) -> bool {
    let bits =
        |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
    Arc::ptr_eq(a, b)
        || (a.schema == b.schema
            && a.hint == b.hint
            && bits(
                &[a.zero_threshold, a.zero_count, a.count, a.sum],
                &[b.zero_threshold, b.zero_count, b.count, b.sum],
            )
            && a.positive.spans == b.positive.spans
            && a.negative.spans == b.negative.spans
            && bits(&a.positive.counts, &b.positive.counts)
            && bits(&a.negative.counts, &b.negative.counts)
            && bits(&a.bounds, &b.bounds))
}
