//! The operator of `absent(v)` and `absent_over_time(v)`: one row with labels that are known from
//! the query. It has the value 1 if the input, which counts the samples of all shards, has no
//! value.

use super::evaluation_guard::EvaluationGuard;
use super::{ChangedRows, EvalError, Operator, StepInput, StepOutput};
use storage::model::value::ABSENT;
use storage::model::{Labels, TimeMs};

/// The operator of both functions.
pub struct Absent {
    /// The labels of the only row.
    labels: Labels,
}

impl Absent {
    /// The operator for [`crate::plan::physical::StepOp::Absent`].
    pub fn new(labels: Labels) -> Absent {
        Absent { labels }
    }
}

impl Operator for Absent {
    fn eval(
        &mut self,
        inputs: &[StepInput],
        _: TimeMs,
        out: &mut StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        if out.labels.is_empty() {
            out.add_row(self.labels.clone());
        }
        eval_guard.samples(inputs[0].out.values.len())?;
        let value = if inputs[0].out.present().next().is_some() { ABSENT } else { 1.0 };
        let mut touched = Vec::new();
        out.set(0, value, &mut touched);
        out.changed = ChangedRows::Rows(touched);
        Ok(())
    }
}
