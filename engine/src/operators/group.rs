//! Aggregations that need all rows of a group in one place: topk, quantile, deviation, and their kin.

use super::grouping::{Groups, group_key};
use super::matching::replace_rows;
use super::{EvalError, Input, Operator, Output, scalar::scalar_of};
use crate::functions::aggregation::VariancePartial;
use crate::functions::quantile::quantile;
use crate::plan::{AggregateOp, Grouping};
use std::cmp::Ordering;
use std::collections::HashMap;
use storage::model::{Labels, TimeMs};

/// See the module.
pub struct Group {
    op: AggregateOp,
    grouping: Grouping,
    /// `count_values`: the label that holds the value.
    text: Option<String>,
    groups: Groups,
    /// Output rows: of the input rows (topk), or by labels.
    of_input: Vec<Option<u32>>,
    by_labels: HashMap<Labels, u32>,
    previous: Vec<u32>,
}

impl Group {
    /// See [`crate::plan::physical::StepOp::Group`].
    pub fn new(op: AggregateOp, grouping: Grouping, text: Option<String>) -> Group {
        Group {
            op,
            grouping,
            text,
            groups: Groups::default(),
            of_input: Vec::new(),
            by_labels: HashMap::new(),
            previous: Vec::new(),
        }
    }

    fn row_of_labels(&mut self, labels: Labels, out: &mut Output) -> u32 {
        *self.by_labels.entry(labels).or_insert_with_key(|labels| out.add_row(labels.clone()) as u32)
    }

    /// `topk`, `bottomk`, `limitk`, `limit_ratio`: some of the input rows.
    fn pick(
        &mut self,
        group: usize,
        param: f64,
        input: &Output,
        out: &mut Output,
        values: &mut Vec<(u32, f64)>,
    ) {
        let present = |r: &u32| !storage::model::value::is_absent(input.values[*r as usize]);
        let mut rows: Vec<u32> = self.groups.members(group).iter().copied().filter(present).collect();
        match self.op {
            AggregateOp::LimitRatio => rows.retain(|r| in_ratio(&input.labels[*r as usize], param)),
            _ => {
                let k = param.max(0.0) as usize;
                if self.op != AggregateOp::Limitk {
                    let descending = self.op == AggregateOp::Topk;
                    rows.sort_by(|a, b| {
                        rank(input.values[*a as usize], input.values[*b as usize], descending)
                    });
                }
                rows.truncate(k);
            }
        }
        for row in rows {
            if self.of_input.len() <= row as usize {
                self.of_input.resize(input.labels.len(), None);
            }
            let place = self.of_input[row as usize]
                .get_or_insert_with(|| out.add_row(input.labels[row as usize].clone()) as u32);
            values.push((*place, input.values[row as usize]));
        }
    }

    /// Refuses a parameter, whether or not there is anything to aggregate.
    fn check(&self, param: f64) -> Result<(), EvalError> {
        let refused = |text: String| Err(EvalError(text));
        match self.op {
            AggregateOp::LimitRatio if param.is_nan() => refused("Ratio value is NaN".to_owned()),
            AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk => whole(param),
            AggregateOp::CountValues if self.text.as_deref().is_none_or(str::is_empty) => {
                refused("invalid label name \"\"".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// `quantile`, `stddev`, `stdvar`: one row per group.
    fn reduce(
        &mut self,
        group: usize,
        param: f64,
        input: &Output,
        out: &mut Output,
        values: &mut Vec<(u32, f64)>,
    ) {
        let members = self.groups.members(group).iter().map(|r| input.values[*r as usize]);
        let mut present: Vec<f64> = members.filter(|v| !storage::model::value::is_absent(*v)).collect();
        let Some(first) = present.first().copied() else { return };
        let value = match self.op {
            AggregateOp::Quantile => quantile(param, &mut present),
            op => {
                let mut deviation = VariancePartial::of(first);
                present[1..].iter().for_each(|v| deviation.add(*v));
                if op == AggregateOp::Stddev { deviation.deviation() } else { deviation.variance() }
            }
        };
        let labels = self.groups.labels[group].clone();
        values.push((self.row_of_labels(labels, out), value));
    }

    /// `count_values`: one row per group and distinct value.
    fn count_values(&mut self, group: usize, input: &Output, out: &mut Output, values: &mut Vec<(u32, f64)>) {
        let label = self.text.clone().unwrap_or_default();
        let mut counts: HashMap<Labels, f64> = HashMap::new();
        for row in self.groups.members(group) {
            let value = input.values[*row as usize];
            if storage::model::value::is_absent(value) {
                continue;
            }
            let mut builder = self.groups.labels[group].to_builder();
            builder.set(label.as_str(), format_value(value));
            let labels = group_key_of_count(&self.grouping, &label, builder.build());
            *counts.entry(labels).or_insert(0.0) += 1.0;
        }
        for (labels, count) in counts {
            values.push((self.row_of_labels(labels, out), count));
        }
    }
}

/// A value as a label: plain decimals, as Go's `FormatFloat(v, 'f', -1, 64)`.
fn format_value(v: f64) -> String {
    if v.is_nan() {
        "NaN".to_owned()
    } else if v.is_infinite() {
        if v > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        format!("{v}")
    }
}

/// `without (label)` removes the label that `count_values` has just set.
fn group_key_of_count(grouping: &Grouping, label: &str, labels: Labels) -> Labels {
    if grouping.without && grouping.labels.iter().any(|l| l == label) {
        labels.filter(|n| n != label)
    } else {
        labels
    }
}

/// Order of presentation: best first, NaN last.
fn rank(a: f64, b: f64, descending: bool) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        _ if descending => b.partial_cmp(&a).unwrap_or(Ordering::Equal),
        _ => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
    }
}

/// Refuses what cannot be the `k` of topk and its kin.
fn whole(param: f64) -> Result<(), EvalError> {
    if param.is_nan() {
        return Err(EvalError("Parameter value is NaN".to_owned()));
    }
    const INT64: f64 = (1u64 << 63) as f64;
    if param >= INT64 || param <= -INT64 {
        let side = if param > 0.0 { "over" } else { "under" };
        return Err(EvalError(format!("Scalar value {param} {side}flows int64")));
    }
    Ok(())
}

/// Whether a series belongs to the sample that `limit_ratio` takes.
fn in_ratio(labels: &Labels, ratio: f64) -> bool {
    let place = labels.hash64() as f64 / u64::MAX as f64;
    if ratio >= 0.0 { place < ratio } else { place >= 1.0 + ratio }
}

impl Operator for Group {
    fn eval(&mut self, inputs: &[Input], _: TimeMs, out: &mut Output) -> Result<(), EvalError> {
        let input = inputs[0].out;
        let param = inputs.get(1).map_or(f64::NAN, scalar_of);
        self.check(param)?;
        let grouping = &self.grouping;
        self.groups.learn(input, |labels| group_key(grouping, labels));
        let mut values = Vec::new();
        for group in 0..self.groups.len() {
            match self.op {
                AggregateOp::CountValues => self.count_values(group, input, out, &mut values),
                AggregateOp::Quantile | AggregateOp::Stddev | AggregateOp::Stdvar => {
                    self.reduce(group, param, input, out, &mut values);
                }
                _ => self.pick(group, param, input, out, &mut values),
            }
        }
        replace_rows(out, values, &mut self.previous);
        Ok(())
    }
}
