//! Buffers that the evaluation of a block ([`super::blocks`]) needs only while it runs. They belong
//! to the leaf so that an evaluation does not allocate.

use crate::functions::line_fit::LineFit;
use crate::functions::rate::RateValidity;
use crate::heap_size::HeapSize;
use storage::model::TimeMs;

use super::deadlines::LinearColumn;

/// Buffers for the samples and values of a block.
#[derive(Default)]
pub(super) struct BlockScratch {
    /// The times of the floats of one column, if not those of the block.
    pub ts: Vec<TimeMs>,
    /// The floats of one column.
    pub vs: Vec<f64>,
    /// The values of all columns, if they are computed together.
    pub values: Vec<f64>,
    /// The sums for the fit of a line, of all columns.
    pub line_fits: Vec<LineFit>,
}

impl BlockScratch {
    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        self.ts.heap()
            + self.vs.heap()
            + self.values.heap()
            + self.line_fits.capacity() * size_of::<LineFit>()
    }
}

/// How the values of the block that is being evaluated change with time.
#[derive(Default)]
pub(super) struct BlockTrends {
    /// Columns whose value changes linearly with time.
    pub linear: Vec<LinearColumn>,
    /// The validity that was computed last for `rate` in this block. Most columns of a block have
    /// the same, so it is reused.
    pub rate_validity: Option<RateValidity>,
}

impl BlockTrends {
    /// Begins another block.
    pub(super) fn clear(&mut self) {
        self.linear.clear();
        self.rate_validity = None;
    }

    /// A value that changes by `slope` per second from `t` on: the value, and until when it is
    /// valid. A slope of NaN means that the change is unknown: the value is valid only at `t`.
    pub(super) fn linear_value(&mut self, column: usize, value: f64, slope: f64, t: TimeMs) -> (f64, TimeMs) {
        if slope != 0.0 && !slope.is_nan() {
            self.linear.push(LinearColumn { column: column as u32, value, slope });
        }
        (value, if slope.is_nan() { t } else { TimeMs::MAX })
    }
}
