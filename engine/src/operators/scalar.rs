//! Scalars: numbers, functions of time, and conversions between scalars and vectors. A scalar is
//! one row without labels.

use super::evaluation_guard::EvaluationGuard;
use super::{ChangedRows, EvalError, Operator, StepInput, StepOutput, binary};
use crate::functions::{Kernel, QueryTimes};
use crate::plan::{BinaryOp, FunctionRef};
use storage::model::value::{ABSENT, is_absent, is_histogram};
use storage::model::{Labels, TimeMs};

/// Sets the only row of a scalar.
pub(crate) fn set_scalar(out: &mut StepOutput, value: f64) {
    if out.labels.is_empty() {
        out.add_row(Labels::default());
    }
    let mut touched = Vec::new();
    // A scalar that stays the same lists no row, so its readers are not evaluated.
    out.set(0, value, &mut touched);
    out.changed = ChangedRows::Rows(touched);
}

/// The value of a scalar input.
pub(crate) fn scalar_of(input: &StepInput) -> f64 {
    input.out.values.first().copied().unwrap_or(f64::NAN)
}

/// A number.
pub struct Constant(pub f64);

impl Operator for Constant {
    fn eval(
        &mut self,
        _: &[StepInput],
        _: TimeMs,
        out: &mut StepOutput,
        _: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        set_scalar(out, self.0);
        Ok(())
    }
}

/// `time()` and similar functions.
pub struct TimeScalar {
    kernel: Kernel,
    shift: i64,
}

impl TimeScalar {
    /// The operator of a function of kind `Clock` or `Query`.
    pub fn new(function: FunctionRef, shift: i64) -> TimeScalar {
        TimeScalar { kernel: function.0.kernel, shift }
    }
}

impl Operator for TimeScalar {
    fn eval(
        &mut self,
        _: &[StepInput],
        t: TimeMs,
        out: &mut StepOutput,
        _: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        // The query offset of a rule also moves `time()`, as in Prometheus.
        let t = t - self.shift;
        let value = match self.kernel {
            Kernel::Clock(function) => function(t),
            // A view is an instant query at every tick: its start and end are the tick.
            Kernel::Query(function) => function(QueryTimes::instant(t)),
            _ => f64::NAN,
        };
        set_scalar(out, value);
        Ok(())
    }
}

/// `hour()` and similar functions without an argument.
pub struct TimeVector {
    function: fn(f64) -> f64,
    shift: i64,
}

impl TimeVector {
    /// The operator of a function of kind `MapOrClock`.
    pub fn new(function: FunctionRef, shift: i64) -> TimeVector {
        let function = match function.0.kernel {
            Kernel::MapOrClock(function) => function,
            _ => |_| f64::NAN,
        };
        TimeVector { function, shift }
    }
}

impl Operator for TimeVector {
    fn eval(
        &mut self,
        _: &[StepInput],
        t: TimeMs,
        out: &mut StepOutput,
        _: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        // Whole seconds: Prometheus cuts them off here, unlike in `time()`.
        set_scalar(out, (self.function)(((t - self.shift) / 1000) as f64));
        Ok(())
    }
}

/// An operator between scalars; comparisons return 0 or 1.
pub struct ScalarBinary(pub BinaryOp);

impl Operator for ScalarBinary {
    fn eval(
        &mut self,
        inputs: &[StepInput],
        _: TimeMs,
        out: &mut StepOutput,
        _: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        let a = scalar_of(&inputs[0]);
        let b = scalar_of(&inputs[1]);
        let value = if self.0.is_comparison() {
            f64::from(binary::compare(self.0, a, b))
        } else {
            binary::arithmetic(self.0, a, b)
        };
        set_scalar(out, value);
        Ok(())
    }
}

/// A function of scalars only.
pub struct ScalarFunction(fn(&[f64]) -> f64);

impl ScalarFunction {
    /// The operator of a function of kind `Scalars`.
    pub fn new(function: FunctionRef) -> ScalarFunction {
        match function.0.kernel {
            Kernel::Scalars(kernel) => ScalarFunction(kernel),
            _ => ScalarFunction(|_| f64::NAN),
        }
    }
}

impl Operator for ScalarFunction {
    fn eval(
        &mut self,
        inputs: &[StepInput],
        _: TimeMs,
        out: &mut StepOutput,
        _: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        let values: Vec<f64> = inputs.iter().map(scalar_of).collect();
        set_scalar(out, (self.0)(&values));
        Ok(())
    }
}

/// `scalar(v)`: the single float, or NaN.
pub struct ToScalar;

impl Operator for ToScalar {
    fn eval(
        &mut self,
        inputs: &[StepInput],
        _: TimeMs,
        out: &mut StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        eval_guard.samples(inputs[0].out.values.len())?;
        // A histogram is no scalar and does not count, as if it were not there.
        let mut present = inputs[0].out.values.iter().filter(|v| !is_absent(**v) && !is_histogram(**v));
        let value = match (present.next(), present.next()) {
            (Some(only), None) => *only,
            _ => f64::NAN,
        };
        set_scalar(out, value);
        Ok(())
    }
}

/// `vector(s)`.
pub struct ToVector;

impl Operator for ToVector {
    fn eval(
        &mut self,
        inputs: &[StepInput],
        _: TimeMs,
        out: &mut StepOutput,
        _: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        set_scalar(out, inputs[0].out.values.first().copied().unwrap_or(ABSENT));
        Ok(())
    }
}
