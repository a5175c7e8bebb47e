//! `histogram_quantile` over classic histograms: buckets find each other by all labels but `le`.

use super::grouping::Groups;
use super::matching::replace_rows;
use super::{EvalError, Input, Operator, Output, Twins, scalar::scalar_of};
use crate::functions::histogram::{Bucket, bucket_quantile, parse_bound};
use storage::model::TimeMs;
use storage::model::labels::METRIC_NAME;

/// See the module.
#[derive(Default)]
pub struct HistogramQuantile {
    groups: Groups,
    /// Upper bound of each input row; `None`: `le` is missing or malformed.
    bounds: Vec<Option<f64>>,
    previous: Vec<u32>,
    twins: Twins,
}

impl HistogramQuantile {
    fn learn(&mut self, input: &Output, out: &mut Output) {
        self.groups.learn(input, |labels| labels.filter(|n| n != "le"));
        let known = self.bounds.len();
        self.bounds.extend(input.labels[known..].iter().map(|labels| labels.get("le").and_then(parse_bound)));
        for group in out.labels.len()..self.groups.len() {
            out.add_row(self.groups.labels[group].filter(|n| n != METRIC_NAME));
        }
    }
}

impl Operator for HistogramQuantile {
    fn eval(&mut self, inputs: &[Input], _: TimeMs, out: &mut Output) -> Result<(), EvalError> {
        let (q, input) = (scalar_of(&inputs[0]), inputs[1].out);
        self.learn(input, out);
        let mut buckets: Vec<Vec<Bucket>> = vec![Vec::new(); self.groups.len()];
        for row in input.present() {
            if let Some(bound) = self.bounds[row] {
                buckets[self.groups.of_row[row] as usize].push((bound, input.values[row]));
            }
        }
        let filled = buckets.iter_mut().enumerate().filter(|(_, buckets)| !buckets.is_empty());
        let values =
            filled.map(|(group, buckets)| (group as u32, bucket_quantile(q, buckets).value)).collect();
        replace_rows(out, values, &mut self.previous);
        self.twins.learn(out);
        self.twins.check(out)
    }
}
