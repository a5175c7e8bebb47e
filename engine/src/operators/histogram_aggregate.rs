//! Groups with native histograms: `sum` and `avg` of them, within a shard and across shards.
//!
//! Members are added in order, as in Prometheus. A group with floats and histograms, or with custom
//! and exponential buckets, has no result and a warning. The result of a shard is sent as a
//! [`PartialRow`]: the sum as the row's histogram, the rounding errors as its compensation, and
//!
//! | value | histogram | the shard's part of the group |
//! |---|---|---|
//! | a number | none | floats; see [`super::aggregate`] |
//! | HISTOGRAM | its sum | histograms; the further columns are flags and, for `avg`, the count |
//! | a number | some | both: there will be no result |
//! | HISTOGRAM | none | histograms that cannot be added, with the shard's annotation: no result |

use crate::annotations::texts;
use crate::annotations::{AnnotationTarget, StepAnnotation};
use crate::plan::AggregateOp;
use crate::types::histogram_column::Sample;
use std::sync::Arc;
use storage::model::NativeHistogram;
use storage::model::histogram::{
    HistogramError, HistogramMean, HistogramSum, MergeConflicts, SeenResetHints,
};
use storage::model::value::{ABSENT, HISTOGRAM, is_histogram};

/// The vector's place among the operands.
const VECTOR: AnnotationTarget = AnnotationTarget::Operand(0);
/// What annotations call these aggregations.
const DURING: &str = "aggregation";

/// Some member has the hint that its counter was reset.
const RESET: u32 = 1;
/// Some member has the hint that its counter was not reset.
const NOT_RESET: u32 = 2;
/// The mean overflowed as a sum, and is stored as a mean.
const INCREMENTAL: u32 = 4;

/// A sum or a mean of some histograms.
pub(super) enum HistogramTotal {
    Sum(HistogramSum),
    Mean(HistogramMean),
}

impl HistogramTotal {
    fn new(op: AggregateOp, first: &NativeHistogram) -> HistogramTotal {
        match op {
            AggregateOp::Avg => HistogramTotal::Mean(HistogramMean::from_first(first)),
            _ => HistogramTotal::Sum(HistogramSum::from_first(first)),
        }
    }

    fn add(&mut self, other: &NativeHistogram) -> Result<MergeConflicts, HistogramError> {
        match self {
            HistogramTotal::Sum(sum) => sum.add(other),
            HistogramTotal::Mean(mean) => mean.add(other),
        }
    }

    /// Adds the total of another shard, computed by the same aggregation.
    fn merge(&mut self, other: &HistogramTotal) -> Result<MergeConflicts, HistogramError> {
        match self {
            HistogramTotal::Sum(sum) => sum.merge(other.sum()),
            HistogramTotal::Mean(mean) => match other {
                HistogramTotal::Mean(other) => mean.merge(other),
                // Does not occur: both are of the same aggregation. One histogram is a mean of one.
                HistogramTotal::Sum(other) => mean.merge(&HistogramMean::from_sum(other.clone(), 1.0, false)),
            },
        }
    }

    fn sum(&self) -> &HistogramSum {
        match self {
            HistogramTotal::Sum(sum) => sum,
            HistogramTotal::Mean(mean) => mean.sum(),
        }
    }

    fn value(&self) -> NativeHistogram {
        let mut value = match self {
            HistogramTotal::Sum(sum) => sum.value(),
            HistogramTotal::Mean(mean) => mean.value(),
        };
        // Empty buckets are an effect of adding. They are dropped as in Prometheus, whose answer
        // shows the spans.
        value.compact();
        value
    }

    /// The total as a row of the partial aggregate.
    fn to_row(&self) -> PartialRow {
        let (sum, compensation) = self.sum().to_parts();
        let SeenResetHints { reset, not_reset } = self.sum().hints_seen();
        let (count, incremental) = match self {
            HistogramTotal::Sum(_) => (ABSENT, false),
            HistogramTotal::Mean(mean) => (mean.count(), mean.is_incremental()),
        };
        // Flags travel as a number in a further column, so that a partial aggregate has no format
        // of its own between processes.
        let flag = |on: bool, flag: u32| if on { flag } else { 0 };
        let flags = flag(reset, RESET) | flag(not_reset, NOT_RESET) | flag(incremental, INCREMENTAL);
        PartialRow {
            columns: [HISTOGRAM, f64::from(flags), count],
            histogram: Some(Arc::new(sum)),
            compensation: Some(Arc::new(compensation)),
        }
    }

    /// The total from a row of the partial aggregate.
    fn from_row(
        op: AggregateOp,
        columns: [f64; 3],
        sum: &NativeHistogram,
        compensation: &NativeHistogram,
    ) -> HistogramTotal {
        let flags = columns[1] as u32;
        let on = |flag: u32| flags & flag != 0;
        let hints = SeenResetHints { reset: on(RESET), not_reset: on(NOT_RESET) };
        let sum = HistogramSum::from_parts(sum, compensation, hints);
        match op {
            AggregateOp::Avg => {
                HistogramTotal::Mean(HistogramMean::from_sum(sum, columns[2], on(INCREMENTAL)))
            }
            _ => HistogramTotal::Sum(sum),
        }
    }
}

/// A shard's part of a group, as a row of the partial aggregate.
pub(super) struct PartialRow {
    /// The value and the further columns.
    pub(super) columns: [f64; 3],
    /// The histogram of the row.
    pub(super) histogram: Option<Arc<NativeHistogram>>,
    /// The rounding error of the sum so far (Kahan).
    pub(super) compensation: Option<Arc<NativeHistogram>>,
}

impl PartialRow {
    /// A row without a histogram.
    pub(super) fn from_columns(columns: [f64; 3]) -> PartialRow {
        PartialRow { columns, histogram: None, compensation: None }
    }
}

/// A member of a group: a sample of a series, or a shard's part.
pub(super) enum GroupMember<'a> {
    /// A float, or a part that has only floats.
    Float,
    /// A histogram.
    One(&'a Arc<NativeHistogram>),
    /// A part that has only histograms.
    Part(Box<HistogramTotal>),
    /// A part that has floats and histograms.
    Both(&'a Arc<NativeHistogram>),
    /// A part with histograms that cannot be added.
    Broken,
}

impl<'a> GroupMember<'a> {
    /// The part in a row of the partial aggregate.
    pub(super) fn from_row(
        op: AggregateOp,
        columns: [f64; 3],
        histogram: Option<&'a Arc<NativeHistogram>>,
        compensation: Option<&'a Arc<NativeHistogram>>,
    ) -> GroupMember<'a> {
        match (is_histogram(columns[0]), histogram) {
            (false, None) => GroupMember::Float,
            (true, None) => GroupMember::Broken,
            (false, Some(histogram)) => GroupMember::Both(histogram),
            (true, Some(sum)) => GroupMember::Part(Box::new(HistogramTotal::from_row(
                op,
                columns,
                sum,
                // A part with a histogram always has a compensation; the other argument only
                // satisfies the type.
                compensation.unwrap_or(sum),
            ))),
        }
    }
}

/// A group while its members are added.
pub(super) struct MixedGroup {
    op: AggregateOp,
    total: Option<HistogramTotal>,
    floats: bool,
    /// One of the histograms.
    histogram: Option<Arc<NativeHistogram>>,
    histograms: bool,
    broken: bool,
    annotations: Vec<StepAnnotation>,
}

impl MixedGroup {
    /// An empty group of `sum` or `avg`.
    pub(super) fn new(op: AggregateOp) -> MixedGroup {
        MixedGroup {
            op,
            total: None,
            floats: false,
            histogram: None,
            histograms: false,
            broken: false,
            annotations: Vec::new(),
        }
    }

    /// Adds a member of metric `metric`. After histograms that cannot be added, all others are
    /// ignored.
    pub(super) fn add(&mut self, member: GroupMember, metric: &str) {
        // Prometheus stops adding at the first mismatch too, so later findings do not count.
        if self.broken {
            return;
        }
        self.histograms |= !matches!(member, GroupMember::Float);
        let added = match member {
            GroupMember::Float => return self.floats = true,
            GroupMember::Both(histogram) => {
                self.histogram = Some(histogram.clone());
                return self.floats = true;
            }
            GroupMember::Broken => return self.broken = true,
            GroupMember::One(histogram) => {
                self.histogram.get_or_insert_with(|| histogram.clone());
                match &mut self.total {
                    Some(total) => total.add(histogram),
                    // A group with floats as well has no result, so there is nothing to add.
                    None if self.floats => return,
                    None => return self.total = Some(HistogramTotal::new(self.op, histogram)),
                }
            }
            GroupMember::Part(part) => match &mut self.total {
                Some(total) => total.merge(&part),
                None if self.floats => return,
                None => return self.total = Some(*part),
            },
        };
        match added {
            Ok(reconciled) if reconciled.bounds => {
                self.annotations.push(texts::reconciled_bounds(VECTOR, DURING));
            }
            Ok(_) => {}
            Err(_) => {
                self.broken = true;
                self.annotations.push(texts::mixed_bucket_schemas(VECTOR, metric));
            }
        }
    }

    /// The part of one shard, and its annotations.
    pub(super) fn into_row(self) -> (PartialRow, Vec<StepAnnotation>) {
        let row = match (self.floats, self.total) {
            (true, _) => {
                PartialRow { columns: [0.0, ABSENT, ABSENT], histogram: self.histogram, compensation: None }
            }
            (false, Some(total)) if !self.broken => total.to_row(),
            _ => PartialRow::from_columns([HISTOGRAM, ABSENT, ABSENT]),
        };
        (row, self.annotations)
    }

    /// The aggregate, and its annotations.
    pub(super) fn into_sample(mut self) -> (Sample, Vec<StepAnnotation>) {
        if self.floats && self.histograms {
            self.annotations.push(texts::mixed_floats_histograms_in_aggregation(VECTOR));
            return (Sample::Float(ABSENT), self.annotations);
        }
        let Some(total) = self.total.filter(|_| !self.broken) else {
            return (Sample::Float(ABSENT), self.annotations);
        };
        let hints = total.sum().hints_seen();
        if hints.reset && hints.not_reset {
            self.annotations.push(texts::conflicting_resets(VECTOR, DURING));
        }
        (Sample::Histogram(Arc::new(total.value())), self.annotations)
    }
}
