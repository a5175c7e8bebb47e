//! `and`, `or`, `unless`: many-to-many, by the presence of match keys.

use super::matching::{Keys, replace_samples};
use super::side::Cell;
use super::{EvalError, Input, Operator, Output, Twins};
use crate::heap::Heap;
use crate::plan::{BinaryOp, Matching};
use std::sync::Arc;
use storage::model::{NativeHistogram, TimeMs};

/// See the module.
pub struct Set {
    op: BinaryOp,
    matching: Matching,
    keys: Keys,
    left: Vec<u32>,
    right: Vec<u32>,
    /// Output row of each left and right row, made when first needed.
    left_rows: Vec<Option<u32>>,
    right_rows: Vec<Option<u32>>,
    previous: Vec<u32>,
    twins: Twins,
}

impl Set {
    /// See [`crate::plan::physical::StepOp::Set`].
    pub fn new(op: BinaryOp, matching: Matching) -> Set {
        Set {
            op,
            matching,
            keys: Keys::default(),
            left: Vec::new(),
            right: Vec::new(),
            left_rows: Vec::new(),
            right_rows: Vec::new(),
            previous: Vec::new(),
            twins: Twins::default(),
        }
    }
}

/// What an evaluation lets through: output rows with their samples.
#[derive(Default)]
pub(super) struct Found {
    pub(super) values: Vec<(u32, f64)>,
    pub(super) histograms: Vec<(u32, Arc<NativeHistogram>)>,
}

impl Found {
    /// Lets row `row` of `input` through, as output row `to`.
    pub(super) fn add(&mut self, to: u32, input: &Output, row: usize) {
        match input.cell(row) {
            Cell::Absent => {}
            Cell::Float(v) => self.values.push((to, v)),
            Cell::Histogram(h) => self.histograms.push((to, h.clone())),
        }
    }
}

/// The output row that carries row `row` of `input`.
fn carry(rows: &mut Vec<Option<u32>>, row: usize, input: &Output, out: &mut Output) -> u32 {
    if rows.len() <= row {
        rows.resize(input.labels.len(), None);
    }
    *rows[row].get_or_insert_with(|| out.add_named((input.labels[row].clone(), input.drops(row))) as u32)
}

impl Operator for Set {
    fn eval(&mut self, inputs: &[Input], _: TimeMs, out: &mut Output) -> Result<(), EvalError> {
        let (left, right) = (inputs[0].out, inputs[1].out);
        self.keys.learn(left, &self.matching, &mut self.left);
        self.keys.learn(right, &self.matching, &mut self.right);
        let mut there = vec![false; self.keys.labels.len()];
        let mut found = Found::default();
        match self.op {
            BinaryOp::Or => {
                for row in left.present() {
                    there[self.left[row] as usize] = true;
                    found.add(carry(&mut self.left_rows, row, left, out), left, row);
                }
                for row in right.present().filter(|row| !there[self.right[*row] as usize]) {
                    found.add(carry(&mut self.right_rows, row, right, out), right, row);
                }
            }
            op => {
                right.present().for_each(|row| there[self.right[row] as usize] = true);
                let wanted = op == BinaryOp::And;
                for row in left.present().filter(|row| there[self.left[*row] as usize] == wanted) {
                    found.add(carry(&mut self.left_rows, row, left, out), left, row);
                }
            }
        }
        replace_samples(out, found.values, found.histograms, &mut self.previous);
        self.twins.learn(out);
        self.twins.check(out)
    }

    fn bytes(&self) -> usize {
        let keys = self.keys.heap() + self.left.heap() + self.right.heap();
        let rows = self.left_rows.heap() + self.right_rows.heap() + self.previous.heap();
        keys + rows + self.twins.heap()
    }
}
