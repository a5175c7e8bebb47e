//! Maps: one output row per input row.

use super::{Changed, EvalError, Input, Operator, Output, Twins, scalar::scalar_of};
use crate::functions::{self, Kernel};
use crate::plan::FunctionRef;
use storage::model::value::{ABSENT, is_absent};
use storage::model::{Labels, TimeMs};

type Kernel1 = fn(f64, &[f64], TimeMs) -> f64;

/// A function per sample, with scalar parameters.
pub struct Map {
    kernel: Kernel1,
    /// Kernels of one parameter, kept apart because they have another signature.
    plain: Option<fn(f64) -> f64>,
    keeps_name: bool,
    params: Vec<f64>,
    twins: Twins,
}

impl Map {
    /// The operator of a table entry of kind `Map` or `MapOrClock`, or of `timestamp` over an expression.
    pub fn new(function: FunctionRef) -> Map {
        let (kernel, plain): (Kernel1, _) = match function.0.kernel {
            Kernel::Map(kernel) => (kernel, None),
            Kernel::MapOrClock(plain) => (|v, _, _| v, Some(plain)),
            _ => (|_, _, t| t as f64 / 1000.0, None),
        };
        Map { kernel, plain, keeps_name: function.0.keeps_name, params: Vec::new(), twins: Twins::default() }
    }

    /// Unary minus.
    pub fn negate() -> Map {
        Map {
            kernel: |v, _, _| -v,
            plain: None,
            keeps_name: false,
            params: Vec::new(),
            twins: Twins::default(),
        }
    }

    /// What comes in goes out.
    pub fn identity() -> Map {
        Map {
            kernel: |v, _, _| v,
            plain: None,
            keeps_name: true,
            params: Vec::new(),
            twins: Twins::default(),
        }
    }

    fn apply(&self, v: f64, t: TimeMs) -> f64 {
        match self.plain {
            _ if is_absent(v) => ABSENT,
            Some(plain) => plain(v),
            None => (self.kernel)(v, &self.params, t),
        }
    }
}

impl Operator for Map {
    fn eval(&mut self, inputs: &[Input], t: TimeMs, out: &mut Output) -> Result<(), EvalError> {
        let keep = self.keeps_name;
        add_rows(&inputs[0], out, |labels| Ok(if keep { labels.clone() } else { labels.of_computed() }))?;
        let params_changed = inputs[1..].iter().any(|p| p.delta.is_some());
        self.params.clear();
        self.params.extend(inputs[1..].iter().map(scalar_of));
        let mut touched = Vec::new();
        // A value that follows the clock (timestamp of an expression) has no delta to go by.
        let all = params_changed || inputs[0].delta.is_none();
        if all {
            (0..out.values.len())
                .for_each(|row| out.set(row, self.apply(inputs[0].out.values[row], t), &mut touched));
        } else {
            inputs[0]
                .rows()
                .for_each(|row| out.set(row, self.apply(inputs[0].out.values[row], t), &mut touched));
        }
        finish(out, touched, &mut self.twins, keep)
    }
}

/// Gives `out` a row for each new row of `input`.
pub(super) fn add_rows(
    input: &Input,
    out: &mut Output,
    mut relabel: impl FnMut(&Labels) -> Result<Labels, EvalError>,
) -> Result<(), EvalError> {
    if out.labels.is_empty() {
        out.sorted = input.out.sorted;
    }
    for row in out.labels.len()..input.out.labels.len() {
        let labels = relabel(&input.out.labels[row])?;
        out.add_row(labels);
    }
    Ok(())
}

/// Notes what was touched; where names were dropped, two rows may have become one.
pub(super) fn finish(
    out: &mut Output,
    touched: Vec<u32>,
    twins: &mut Twins,
    keeps_labels: bool,
) -> Result<(), EvalError> {
    out.changed = Changed::Rows(touched);
    // Rows in strict label order cannot have twins.
    if keeps_labels || out.sorted {
        return Ok(());
    }
    twins.learn(out);
    twins.check(out)
}

/// `label_replace`, `label_join`.
pub struct Relabel {
    function: FunctionRef,
    texts: Vec<String>,
    twins: Twins,
}

impl Relabel {
    /// The operator of a table entry of kind `Relabel`.
    pub fn new(function: FunctionRef, texts: Vec<String>) -> Relabel {
        Relabel { function, texts, twins: Twins::default() }
    }
}

impl Operator for Relabel {
    fn eval(&mut self, inputs: &[Input], _: TimeMs, out: &mut Output) -> Result<(), EvalError> {
        let Kernel::Relabel(kind) = self.function.0.kernel else {
            return Err(EvalError("not a function of labels".to_owned()));
        };
        if out.labels.len() < inputs[0].out.labels.len() || out.labels.is_empty() {
            let failed = |e: functions::labels::LabelError| EvalError(e.to_string());
            let relabel = functions::labels::Relabeling::new(kind, &self.texts).map_err(failed)?;
            add_rows(&inputs[0], out, |labels| relabel.apply(labels).map_err(failed))?;
        }
        out.sorted = false;
        let mut touched = Vec::new();
        inputs[0].rows().for_each(|row| out.set(row, inputs[0].out.values[row], &mut touched));
        finish(out, touched, &mut self.twins, false)
    }
}
