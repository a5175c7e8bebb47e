//! `and`, `or`, `unless`: many-to-many, by the presence of match keys.

use super::matching::{Keys, replace_rows};
use super::{EvalError, Input, Operator, Output, Twins};
use crate::plan::{BinaryOp, Matching};
use storage::model::TimeMs;

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

/// The output row that carries row `row` of `input`.
fn carry(rows: &mut Vec<Option<u32>>, row: usize, input: &Output, out: &mut Output) -> u32 {
    if rows.len() <= row {
        rows.resize(input.labels.len(), None);
    }
    *rows[row].get_or_insert_with(|| out.add_row(input.labels[row].clone()) as u32)
}

impl Operator for Set {
    fn eval(&mut self, inputs: &[Input], _: TimeMs, out: &mut Output) -> Result<(), EvalError> {
        let (left, right) = (inputs[0].out, inputs[1].out);
        self.keys.learn(left, &self.matching, &mut self.left);
        self.keys.learn(right, &self.matching, &mut self.right);
        let mut there = vec![false; self.keys.labels.len()];
        let mut values = Vec::new();
        match self.op {
            BinaryOp::Or => {
                for row in left.present() {
                    there[self.left[row] as usize] = true;
                    values.push((carry(&mut self.left_rows, row, left, out), left.values[row]));
                }
                for row in right.present().filter(|row| !there[self.right[*row] as usize]) {
                    values.push((carry(&mut self.right_rows, row, right, out), right.values[row]));
                }
            }
            op => {
                right.present().for_each(|row| there[self.right[row] as usize] = true);
                let wanted = op == BinaryOp::And;
                for row in left.present().filter(|row| there[self.left[*row] as usize] == wanted) {
                    values.push((carry(&mut self.left_rows, row, left, out), left.values[row]));
                }
            }
        }
        replace_rows(out, values, &mut self.previous);
        self.twins.learn(out);
        self.twins.check(out)
    }
}
