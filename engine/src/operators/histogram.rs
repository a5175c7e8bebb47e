//! `histogram_quantile` and `histogram_fraction` over classic histograms: buckets find each other by all labels
//! but `le`.

use super::grouping::Groups;
use super::matching::replace_rows;
use super::{EvalError, Input, Operator, Output, Twins, scalar::scalar_of};
use crate::functions::histogram::{Bucket, bucket_fraction, bucket_quantile, parse_bound};
use storage::model::TimeMs;

/// What the buckets of one histogram are asked, given the scalar parameters.
type Ask = fn(&[f64], &mut [Bucket]) -> f64;

/// See the module.
pub struct Histogram {
    ask: Ask,
    groups: Groups,
    /// Upper bound of each input row; `None`: `le` is missing or malformed.
    bounds: Vec<Option<f64>>,
    previous: Vec<u32>,
    twins: Twins,
}

impl Histogram {
    /// See [`crate::plan::physical::StepOp::HistogramQuantile`].
    pub fn quantile() -> Histogram {
        Histogram::new(|params, buckets| bucket_quantile(params[0], buckets).value)
    }

    /// See [`crate::plan::physical::StepOp::HistogramFraction`].
    pub fn fraction() -> Histogram {
        Histogram::new(|params, buckets| bucket_fraction(params[0], params[1], buckets))
    }

    fn new(ask: Ask) -> Histogram {
        Histogram {
            ask,
            groups: Groups::default(),
            bounds: Vec::new(),
            previous: Vec::new(),
            twins: Twins::default(),
        }
    }

    fn learn(&mut self, input: &Output, out: &mut Output) {
        self.groups.learn(input, |labels| labels.filter(|n| n != "le"));
        let known = self.bounds.len();
        self.bounds.extend(input.labels[known..].iter().map(|labels| labels.get("le").and_then(parse_bound)));
        for group in out.labels.len()..self.groups.len() {
            out.add_row(self.groups.labels[group].of_computed());
        }
    }
}

impl Operator for Histogram {
    fn eval(&mut self, inputs: &[Input], _: TimeMs, out: &mut Output) -> Result<(), EvalError> {
        let Some((vector, params)) = inputs.split_last() else { return Ok(()) };
        let params: Vec<f64> = params.iter().map(scalar_of).collect();
        let input = vector.out;
        self.learn(input, out);
        let mut buckets: Vec<Vec<Bucket>> = vec![Vec::new(); self.groups.len()];
        for row in input.present() {
            if let Some(bound) = self.bounds[row] {
                buckets[self.groups.of_row[row] as usize].push((bound, input.values[row]));
            }
        }
        let filled = buckets.iter_mut().enumerate().filter(|(_, buckets)| !buckets.is_empty());
        let values = filled.map(|(group, buckets)| (group as u32, (self.ask)(&params, buckets))).collect();
        replace_rows(out, values, &mut self.previous);
        self.twins.learn(out);
        self.twins.check(out)
    }
}
