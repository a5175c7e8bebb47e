//! A value block: the values of a leaf (a selector or window function) over a block of steps (some
//! consecutive evaluation times), series by series.
//!
//! A series is decoded once and evaluated at all steps, so its values are adjacent. Aggregates are
//! computed along the rows ([`super::block_aggregate`]); for operators that work step by step, the
//! values of a step are collected.

use serde::{Deserialize, Serialize};
use storage::model::value::{ABSENT, is_absent};

/// Values by row and step, `[row][step]`; ABSENT where there is none.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct ValueBlock {
    /// All rows, one after the other.
    values: Vec<f64>,
    /// Number of steps of a row.
    steps: usize,
}

impl ValueBlock {
    /// Resizes the block to `rows` times `steps` ABSENT values.
    pub fn reset(&mut self, rows: usize, steps: usize) {
        self.steps = steps;
        self.values.clear();
        self.values.resize(rows * steps, ABSENT);
    }

    /// Sets the value of a row at a step.
    #[inline]
    pub fn set(&mut self, step: usize, row: usize, value: f64) {
        self.values[row * self.steps + step] = value;
    }

    /// The values of a row, by step.
    #[inline]
    pub fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.steps..(row + 1) * self.steps]
    }

    /// The values of a row, to be written.
    #[inline]
    pub fn row_mut(&mut self, row: usize) -> &mut [f64] {
        &mut self.values[row * self.steps..(row + 1) * self.steps]
    }

    /// Replaces the contents of `out` by the values of all rows at one step.
    pub fn step(&self, step: usize, out: &mut Vec<f64>) {
        out.clear();
        // Without rows the block is empty; with rows it has at least one step.
        out.extend(self.values.iter().skip(step).step_by(self.steps.max(1)));
    }

    /// Whether any row has a value at `step`.
    pub fn any(&self, step: usize) -> bool {
        self.values.iter().skip(step).step_by(self.steps.max(1)).any(|v| !is_absent(*v))
    }
}
