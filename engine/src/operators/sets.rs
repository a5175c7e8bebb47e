//! The operators `and`, `or` and `unless`: many-to-many, by whether a match key (the labels of a
//! row as far as `on` or `ignoring` says) is present. Only the keys of changed rows are computed.
//! [`super::matching`] has the keys.

use super::evaluation_guard::EvaluationGuard;
use super::group_index::{GroupResult, GroupRows};
use super::matching::MatchIndex;
use super::metric_names::FlaggedLabels;
use super::{ChangedRows, DuplicateLabels, EvalError, Operator, StepInput, StepOutput};
use crate::heap_size::HeapSize;
use crate::plan::{BinaryOp, VectorMatching};
use storage::model::TimeMs;
use storage::model::value::is_absent;

/// The operator of the three.
pub struct SetOperator {
    op: BinaryOp,
    index: MatchIndex,
    /// By row of the left side and of the right side: its output row, created when it is first
    /// needed.
    left_rows: Vec<Option<u32>>,
    right_rows: Vec<Option<u32>>,
    answers: GroupRows,
    duplicates: DuplicateLabels,
}

impl SetOperator {
    /// The operator for [`crate::plan::physical::StepOp::SetOperator`].
    pub fn new(op: BinaryOp, matching: &VectorMatching) -> SetOperator {
        SetOperator {
            op,
            index: MatchIndex::new(matching),
            left_rows: Vec::new(),
            right_rows: Vec::new(),
            answers: GroupRows::default(),
            duplicates: DuplicateLabels::default(),
        }
    }
}

/// The output row for row `row` of `input`.
fn carry(rows: &mut Vec<Option<u32>>, row: usize, input: &StepOutput, out: &mut StepOutput) -> u32 {
    if rows.len() <= row {
        rows.resize(input.labels.len(), None);
    }
    *rows[row].get_or_insert_with(|| {
        out.add_row_with_name_flag(FlaggedLabels::new(input.labels[row].clone(), input.drops(row))) as u32
    })
}

impl SetOperator {
    /// Adds the rows of one key that the operator keeps.
    fn key(
        &mut self,
        key: u32,
        left: &StepOutput,
        right: &StepOutput,
        out: &mut StepOutput,
        found: &mut GroupResult,
    ) {
        let there = |side: &StepOutput, row: usize| !is_absent(side.values[row]);
        let mut lefts = self.index.left.rows_of(key).filter(|row| there(left, *row)).peekable();
        let mut rights = self.index.right.rows_of(key).filter(|row| there(right, *row)).peekable();
        let (takes_left, takes_right) = match self.op {
            BinaryOp::Or => (true, lefts.peek().is_none()),
            op => (rights.peek().is_some() == (op == BinaryOp::And), false),
        };
        if takes_left {
            for row in lefts {
                found.add(carry(&mut self.left_rows, row, left, out), left, row);
            }
        }
        if takes_right {
            for row in rights {
                found.add(carry(&mut self.right_rows, row, right, out), right, row);
            }
        }
    }
}

impl Operator for SetOperator {
    fn eval(
        &mut self,
        inputs: &[StepInput],
        _: TimeMs,
        out: &mut StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        let left = inputs[0].out;
        let right = inputs[1].out;
        self.index.add_rows(&inputs[0], &inputs[1], eval_guard)?;
        let mut found = GroupResult::default();
        let mut touched = Vec::new();
        for key in self.index.dirty.take() {
            let members = self.index.members(key);
            eval_guard.rows(1 + members)?;
            out.rows_looked_at += members;
            self.key(key, left, right, out, &mut found);
            self.answers.replace(key, &mut found, out, &mut touched);
        }
        out.changed = ChangedRows::Rows(touched);
        self.duplicates.add_rows(out, eval_guard)?;
        self.duplicates.check(out, eval_guard)
    }

    fn bytes(&self) -> usize {
        let rows = self.left_rows.heap() + self.right_rows.heap() + self.answers.heap();
        self.index.heap() + rows + self.duplicates.heap()
    }
}
