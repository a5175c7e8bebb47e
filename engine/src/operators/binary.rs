//! Binary operators on pairs of samples, and operators between a vector and a scalar.
//!
//! Pairs of floats are computed by [`apply`]; if either may be a native histogram, by
//! [`apply_cells`].

use super::evaluation_guard::EvaluationGuard;
use super::metric_names::computed;
use super::{
    ChangedRowIter, DuplicateLabels, EvalError, Operator, StepInput, StepOutput, map, scalar::scalar_of,
};
use crate::annotations::texts;
use crate::annotations::{AnnotationTarget, StepAnnotation};
use crate::heap_size::HeapSize;
use crate::plan::{BinaryOp, Dialect};
use crate::types::histogram_column::{Sample, SampleRef};
use std::sync::Arc;
use storage::model::TimeMs;
use storage::model::histogram::{MergeConflicts, NativeHistogram, ResetHint, TrimSide};
use storage::model::value::{ABSENT, is_absent};

/// The result of an arithmetic operator, as Go computes it.
#[inline]
pub fn arithmetic(op: BinaryOp, a: f64, b: f64) -> f64 {
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        // Rust's `%` is C's `fmod`, as Go's `math.Mod`.
        BinaryOp::Mod => a % b,
        BinaryOp::Pow => a.powf(b),
        BinaryOp::Atan2 => a.atan2(b),
        _ => f64::NAN,
    }
}

/// Whether the comparison `a op b` holds.
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

/// The result for a pair of floats: of arithmetic, its value; of a filter, `kept` or ABSENT; with
/// `bool`, 0 or 1.
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

/// The result for a pair that may contain a histogram. If the operator does not support the types:
/// ABSENT, and an annotation.
pub fn apply_cells(
    op: BinaryOp,
    return_bool: bool,
    l: SampleRef,
    r: SampleRef,
    previous: f64,
    annotations: &mut Vec<StepAnnotation>,
) -> Sample {
    let refused = |left: &str, right: &str| {
        texts::incompatible_types(AnnotationTarget::Whole, left, op.as_str(), right)
    };
    match (l, r) {
        (SampleRef::Absent, _) | (_, SampleRef::Absent) => {}
        (SampleRef::Float(_), SampleRef::Float(_)) if op.is_trim() => {
            annotations.push(refused("float", "float"))
        }
        (SampleRef::Float(a), SampleRef::Float(b)) => {
            return Sample::Float(apply(op, return_bool, a, b, previous));
        }
        (SampleRef::Float(a), SampleRef::Histogram(h)) if op == BinaryOp::Mul => {
            // Only multiplication is commutative: a number divided by a histogram means nothing.
            return scaled(h, |h| h.mul(a));
        }
        (SampleRef::Float(_), SampleRef::Histogram(_)) => annotations.push(refused("float", "histogram")),
        (SampleRef::Histogram(h), SampleRef::Float(b)) => match op {
            BinaryOp::Mul => return scaled(h, |h| h.mul(b)),
            BinaryOp::Div => return scaled(h, |h| h.div(b)),
            BinaryOp::TrimUpper => return Sample::Histogram(Arc::new(h.trimmed(TrimSide::Below, b))),
            BinaryOp::TrimLower => return Sample::Histogram(Arc::new(h.trimmed(TrimSide::Above, b))),
            _ => annotations.push(refused("histogram", "float")),
        },
        (SampleRef::Histogram(a), SampleRef::Histogram(b)) => match op {
            BinaryOp::Add | BinaryOp::Sub => return combined(op, a, b, annotations),
            BinaryOp::Eq | BinaryOp::Ne => {
                // Histograms have no order, so `<` and the like are not supported.
                let holds = a.equals(b) == (op == BinaryOp::Eq);
                return match (return_bool, holds) {
                    (true, holds) => Sample::Float(f64::from(holds)),
                    // A filter keeps the left histogram, shared with its series.
                    (false, true) => Sample::Histogram(a.clone()),
                    (false, false) => Sample::Float(ABSENT),
                };
            }
            _ => annotations.push(refused("histogram", "histogram")),
        },
    }
    Sample::Float(ABSENT)
}

fn scaled(histogram: &Arc<NativeHistogram>, change: impl FnOnce(&mut NativeHistogram)) -> Sample {
    let mut copy = NativeHistogram::clone(histogram);
    change(&mut copy);
    copy.compact();
    Sample::Histogram(Arc::new(copy))
}

/// Sum or difference of two histograms.
fn combined(
    op: BinaryOp,
    a: &NativeHistogram,
    b: &NativeHistogram,
    annotations: &mut Vec<StepAnnotation>,
) -> Sample {
    let mut result = a.clone();
    let (outcome, during) = match op {
        BinaryOp::Add => (result.add(b), "addition"),
        _ => (result.sub(b), "subtraction"),
    };
    let Ok(MergeConflicts { hints_collided, bounds }) = outcome else {
        annotations.push(texts::incompatible_buckets(AnnotationTarget::Whole, op.as_str()));
        return Sample::Float(ABSENT);
    };
    if op == BinaryOp::Sub {
        // A difference may go up and down, so it is a gauge.
        result.hint = ResetHint::Gauge;
    }
    if hints_collided {
        // As in Prometheus, where it is an error of this pair only.
        annotations.push(texts::conflicting_resets(AnnotationTarget::Whole, during));
        return Sample::Float(ABSENT);
    }
    if bounds {
        annotations.push(texts::reconciled_bounds(AnnotationTarget::Whole, during));
    }
    result.compact();
    Sample::Histogram(Arc::new(result))
}

/// Whether the result loses the metric name.
pub fn drops_name(op: BinaryOp, return_bool: bool) -> bool {
    !op.is_set() && !op.is_trim() && (!op.is_comparison() || return_bool)
}

/// A vector with a scalar. A filter keeps the vector's value, whichever side the vector is on.
pub struct VectorScalar {
    op: BinaryOp,
    return_bool: bool,
    scalar_left: bool,
    dialect: Dialect,
    duplicates: DuplicateLabels,
}

impl VectorScalar {
    /// The operator for [`crate::plan::physical::StepOp::VectorScalar`].
    pub fn new(op: BinaryOp, return_bool: bool, scalar_left: bool, dialect: Dialect) -> VectorScalar {
        VectorScalar { op, return_bool, scalar_left, dialect, duplicates: DuplicateLabels::default() }
    }

    #[inline]
    fn apply(&self, v: f64, s: f64) -> f64 {
        if is_absent(v) {
            // Arithmetic would turn ABSENT, a NaN, into another NaN, which is a value.
            ABSENT
        } else if self.scalar_left {
            // The value that a filter keeps is the vector's, although the scalar is on the left.
            apply(self.op, self.return_bool, s, v, v)
        } else {
            apply(self.op, self.return_bool, v, s, v)
        }
    }

    /// Like [`VectorScalar::apply`], for samples that may be histograms.
    fn apply_cell(
        &self,
        row: usize,
        input: &StepOutput,
        s: f64,
        out: &mut StepOutput,
        touched: &mut Vec<u32>,
    ) {
        let cell = input.cell(row);
        let scalar = SampleRef::Float(s);
        let pair = if self.scalar_left { (scalar, cell) } else { (cell, scalar) };
        let mut annotations = Vec::new();
        let sample =
            apply_cells(self.op, self.return_bool, pair.0, pair.1, input.values[row], &mut annotations);
        out.put(row, sample, touched);
        out.annotations.set_row(row, annotations);
    }
}

/// Whether the operands have only floats and the operator has a kernel for floats.
pub(super) fn only_floats(op: BinaryOp, inputs: &[&StepOutput]) -> bool {
    !op.is_trim() && inputs.iter().all(|input| input.histograms.is_empty())
}

impl Operator for VectorScalar {
    fn eval(
        &mut self,
        inputs: &[StepInput],
        _: TimeMs,
        out: &mut StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        let keep = !drops_name(self.op, self.return_bool);
        let dialect = self.dialect;
        map::add_rows(&inputs[0], out, eval_guard, |labels, drops| {
            Ok(computed(dialect, labels, drops, keep))
        })?;
        let input = inputs[0].out;
        let scalar = scalar_of(&inputs[1]);
        let rows = match inputs[1].delta {
            // Another scalar changes every row.
            Some(_) => ChangedRowIter::All(0..out.values.len()),
            None => inputs[0].rows(),
        };
        let mut touched = Vec::new();
        // If there were annotations, those of rows that have only floats by now must be removed.
        if only_floats(self.op, &[input]) && out.annotations.is_empty() {
            for row in rows {
                eval_guard.row()?;
                out.set(row, self.apply(input.values[row], scalar), &mut touched);
            }
        } else {
            for row in rows {
                eval_guard.row()?;
                self.apply_cell(row, input, scalar, out, &mut touched);
            }
        }
        map::finish(out, touched, &mut self.duplicates, keep || dialect.delayed_names, eval_guard)
    }

    fn bytes(&self) -> usize {
        self.duplicates.heap()
    }
}
