//! Scalars that a query of their own answered first: parameters of window functions that depend on series. Windows
//! are computed shard by shard, such a scalar needs all shards.

use super::run::Grid;
use crate::operators::pace::Pace;
use crate::operators::scalar::set_scalar;
use crate::operators::{EvalError, Input, Operator, Output};
use std::sync::Arc;
use storage::model::TimeMs;

/// A scalar per evaluation time.
pub(super) type Given = Arc<[f64]>;

/// The step that answers it.
pub(super) struct GivenScalar {
    grid: Grid,
    values: Given,
}

impl GivenScalar {
    /// `values` by the times of `grid`.
    pub(super) fn new(grid: Grid, values: Given) -> GivenScalar {
        GivenScalar { grid, values }
    }
}

impl Operator for GivenScalar {
    fn eval(&mut self, _: &[Input], t: TimeMs, out: &mut Output, _: &mut Pace) -> Result<(), EvalError> {
        let at = usize::try_from((t - self.grid.start) / self.grid.step).unwrap_or(usize::MAX);
        set_scalar(out, self.values.get(at).copied().unwrap_or(f64::NAN));
        Ok(())
    }
}
