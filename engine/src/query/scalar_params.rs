//! Parameters of window functions that depend on series, for example `quantile_over_time(scalar(x),
//! ...)`. They are evaluated as queries of their own before the windows, because windows are
//! computed shard by shard and such a scalar needs all shards.

use super::query_run::TimeGrid;
use crate::operators::evaluation_guard::EvaluationGuard;
use crate::operators::scalar::set_scalar;
use crate::operators::{EvalError, Operator, StepInput, StepOutput};
use std::sync::Arc;
use storage::model::TimeMs;

/// A scalar for each evaluation time.
pub(super) type ScalarParam = Arc<[f64]>;

/// The operator that returns it.
pub(super) struct ScalarParamOperator {
    grid: TimeGrid,
    values: ScalarParam,
}

impl ScalarParamOperator {
    /// The operator for `values`, one for each time of `grid`.
    pub(super) fn new(grid: TimeGrid, values: ScalarParam) -> ScalarParamOperator {
        ScalarParamOperator { grid, values }
    }
}

impl Operator for ScalarParamOperator {
    fn eval(
        &mut self,
        _: &[StepInput],
        t: TimeMs,
        out: &mut StepOutput,
        _: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        let at = usize::try_from((t - self.grid.start) / self.grid.step).unwrap_or(usize::MAX);
        set_scalar(out, self.values.get(at).copied().unwrap_or(f64::NAN));
        Ok(())
    }
}
