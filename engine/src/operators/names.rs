//! Metric names: when computed values lose them.
//!
//! By default at once. With delayed names ([`Dialect::delayed_names`]) a row keeps its labels, remembers that it is to
//! lose what describes the metric, and loses it in the last step ([`DropNames`]): steps in between can still tell
//! series apart, and match and group by the name.

use super::map::{add_rows, finish};
use super::pace::Pace;
use super::side::Sample;
use super::{EvalError, Input, Operator, Output, Twins};
use crate::heap::Heap;
use crate::plan::Dialect;
use storage::model::value::ABSENT;
use storage::model::{Labels, TimeMs};

/// Labels of a row, and whether it loses in the end what describes the metric.
pub type Named = (Labels, bool);

/// The labels of a value computed from one with `labels`; `keeps`: what is computed keeps the name.
pub fn computed(dialect: Dialect, labels: &Labels, drops: bool, keeps: bool) -> Named {
    match keeps {
        true => (labels.clone(), drops),
        false if dialect.delayed_names => (labels.clone(), true),
        false => (labels.of_computed(), false),
    }
}

/// The last step of a plan with delayed names.
#[derive(Default)]
pub struct DropNames {
    twins: Twins,
}

impl Operator for DropNames {
    fn eval(
        &mut self,
        inputs: &[Input],
        _: TimeMs,
        out: &mut Output,
        pace: &mut Pace,
    ) -> Result<(), EvalError> {
        add_rows(&inputs[0], out, pace, |labels, drops| {
            Ok((if drops { labels.of_computed() } else { labels.clone() }, false))
        })?;
        let (mut touched, input) = (Vec::new(), inputs[0].out);
        for row in inputs[0].rows() {
            pace.row()?;
            let sample = input.cell(row).sample();
            out.put(row, sample.unwrap_or(Sample::Float(ABSENT)), &mut touched);
        }
        finish(out, touched, &mut self.twins, false, pace)
    }

    fn bytes(&self) -> usize {
        self.twins.heap()
    }
}
