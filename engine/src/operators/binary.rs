//! Binary operators on numbers, and a vector with a scalar.

use super::{EvalError, Input, Operator, Output, Twins, map, scalar::scalar_of};
use crate::plan::BinaryOp;
use storage::model::TimeMs;
use storage::model::value::{ABSENT, is_absent};

/// `a op b` of an arithmetic operator, as Go computes it.
#[inline]
pub fn arithmetic(op: BinaryOp, a: f64, b: f64) -> f64 {
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Mod => a % b,
        BinaryOp::Pow => a.powf(b),
        BinaryOp::Atan2 => a.atan2(b),
        _ => f64::NAN,
    }
}

/// Whether `a op b` holds.
#[inline]
#[allow(clippy::float_cmp, reason = "PromQL compares floats exactly")]
pub fn compare(op: BinaryOp, a: f64, b: f64) -> bool {
    match op {
        BinaryOp::Eq => a == b,
        BinaryOp::Ne => a != b,
        BinaryOp::Gt => a > b,
        BinaryOp::Lt => a < b,
        BinaryOp::Ge => a >= b,
        BinaryOp::Le => a <= b,
        _ => false,
    }
}

/// What an element pair gives: the result of arithmetic; `kept` or nothing for a filter; 0 or 1 with `bool`.
#[inline]
pub fn apply(op: BinaryOp, return_bool: bool, a: f64, b: f64, kept: f64) -> f64 {
    if !op.is_comparison() {
        return arithmetic(op, a, b);
    }
    match (return_bool, compare(op, a, b)) {
        (true, holds) => f64::from(holds),
        (false, true) => kept,
        (false, false) => ABSENT,
    }
}

/// Whether the result loses its metric name.
pub fn drops_name(op: BinaryOp, return_bool: bool) -> bool {
    !op.is_set() && (!op.is_comparison() || return_bool)
}

/// Vector with scalar. A filter keeps the vector's value on either side.
pub struct VectorScalar {
    op: BinaryOp,
    return_bool: bool,
    scalar_left: bool,
    twins: Twins,
}

impl VectorScalar {
    /// See [`crate::plan::physical::StepOp::VectorScalar`].
    pub fn new(op: BinaryOp, return_bool: bool, scalar_left: bool) -> VectorScalar {
        VectorScalar { op, return_bool, scalar_left, twins: Twins::default() }
    }

    #[inline]
    fn apply(&self, v: f64, s: f64) -> f64 {
        match self.scalar_left {
            _ if is_absent(v) => ABSENT,
            true => apply(self.op, self.return_bool, s, v, v),
            false => apply(self.op, self.return_bool, v, s, v),
        }
    }
}

impl Operator for VectorScalar {
    fn eval(&mut self, inputs: &[Input], _: TimeMs, out: &mut Output) -> Result<(), EvalError> {
        let keep = !drops_name(self.op, self.return_bool);
        map::add_rows(&inputs[0], out, |labels| {
            Ok(if keep { labels.clone() } else { labels.of_computed() })
        })?;
        let scalar = scalar_of(&inputs[1]);
        let mut touched = Vec::new();
        if inputs[1].delta.is_some() {
            (0..out.values.len())
                .for_each(|r| out.set(r, self.apply(inputs[0].out.values[r], scalar), &mut touched));
        } else {
            inputs[0]
                .rows()
                .for_each(|r| out.set(r, self.apply(inputs[0].out.values[r], scalar), &mut touched));
        }
        map::finish(out, touched, &mut self.twins, keep)
    }
}
