//! Aggregations that need all rows of a group in one place: `topk`, `bottomk`, `limitk`,
//! `limit_ratio`, `quantile`, `stddev`, `stdvar`, `count_values`.
//!
//! Unlike a sum, their result cannot be merged from results of shards, so they run in the gather
//! stage, over the rows of all shards. Only groups with a changed member are computed again.

use super::evaluation_guard::EvaluationGuard;
use super::group_index::{DirtyGroups, GroupResult, GroupRows};
use super::grouping::{RowGroups, group_key};
use super::metric_names::FlaggedLabels;
use super::{ChangedRows, EvalError, Operator, StepInput, StepOutput, scalar::scalar_of, sort_paced};
use crate::annotations::texts;
use crate::annotations::{AnnotationTarget, StepAnnotation};
use crate::functions::aggregation::VariancePartial;
use crate::functions::labels::{check_name, check_value};
use crate::functions::quantile::quantile;
use crate::heap_size::HeapSize;
use crate::plan::{AggregateOp, Grouping};
use crate::types::go_text;
use crate::types::histogram_column::SampleRef;
use std::cmp::Ordering;
use std::collections::HashMap;
use storage::model::labels::METRIC_NAME;
use storage::model::number::{general, plain};
use storage::model::value::{ABSENT, is_absent, is_histogram};
use storage::model::{Labels, TimeMs};

/// The operator of these aggregations.
pub struct WholeGroup {
    /// `topk`, `quantile` and so on.
    op: AggregateOp,
    /// `by` or `without`.
    grouping: Grouping,
    /// For `count_values`: the label that gets the value.
    text: Option<String>,
    groups: RowGroups,
    /// Output rows: by input row (`topk` etc.), or by labels.
    of_input: Vec<Option<u32>>,
    by_labels: HashMap<Labels, u32>,
    dirty: DirtyGroups,
    answers: GroupRows,
    /// The parameter of the latest evaluation.
    param: Option<f64>,
    /// Groups in which a histogram was ignored.
    ignoring: GroupFlags,
    counted: ValueCounts,
}

/// The result of one group, and whether a histogram was ignored.
#[derive(Default)]
struct GroupAnswer {
    rows: GroupResult,
    ignored: bool,
}

/// A set of groups, with its size.
#[derive(Default)]
struct GroupFlags {
    marked: Vec<bool>,
    count: usize,
}

impl GroupFlags {
    fn set(&mut self, group: usize, marked: bool) {
        if self.marked.len() <= group {
            self.marked.resize(group + 1, false);
        }
        let before = std::mem::replace(&mut self.marked[group], marked);
        self.count = self.count + usize::from(marked) - usize::from(before);
    }
}

/// For `count_values`: the output row in which each input row is counted, and the count of each
/// output row.
#[derive(Default)]
struct ValueCounts {
    of_input: Vec<Option<u32>>,
    counts: Vec<u32>,
}

impl WholeGroup {
    /// The operator for [`crate::plan::physical::StepOp::WholeGroup`].
    pub fn new(op: AggregateOp, grouping: Grouping, text: Option<String>) -> WholeGroup {
        WholeGroup {
            op,
            grouping,
            text,
            groups: RowGroups::default(),
            of_input: Vec::new(),
            by_labels: HashMap::new(),
            dirty: DirtyGroups::default(),
            answers: GroupRows::default(),
            param: None,
            ignoring: GroupFlags::default(),
            counted: ValueCounts::default(),
        }
    }

    fn row_of_labels(&mut self, labels: Labels, drops: bool, out: &mut StepOutput) -> u32 {
        let made =
            |labels: &Labels| out.add_row_with_name_flag(FlaggedLabels::new(labels.clone(), drops)) as u32;
        *self.by_labels.entry(labels).or_insert_with_key(made)
    }

    /// `topk`, `bottomk`, `limitk`, `limit_ratio`: selects some of the input rows.
    fn pick(
        &mut self,
        group: usize,
        param: f64,
        input: &StepOutput,
        out: &mut StepOutput,
        answer: &mut GroupAnswer,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        // A negative `k` selects nothing. Large values were rejected before.
        let k = param.max(0.0) as usize;
        if self.op != AggregateOp::LimitRatio && k == 0 {
            return Ok(());
        }
        let present = |r: &u32| !is_absent(input.values[*r as usize]);
        let mut rows: Vec<u32> = self.groups.members(group).iter().copied().filter(present).collect();
        match self.op {
            AggregateOp::LimitRatio => rows.retain(|r| in_ratio(&input.labels[*r as usize], param)),
            // The first in the fixed order. Prometheus takes the first of its storage's order,
            // which is that of labels too.
            AggregateOp::Limitk => rows.truncate(k),
            _ => {
                let before = rows.len();
                // Histograms have no order.
                rows.retain(|r| !is_histogram(input.values[*r as usize]));
                answer.ignored |= rows.len() < before;
                let descending = self.op == AggregateOp::Topk;
                let value = |row: &u32| input.values[*row as usize];
                rows = sort_paced(rows, |a, b| rank(value(a), value(b), descending), eval_guard)?;
                rows.truncate(k);
            }
        }
        for row in rows {
            eval_guard.row()?;
            if self.of_input.len() <= row as usize {
                self.of_input.resize(input.labels.len(), None);
            }
            // A selected row keeps its labels, so each input row has at most one row of the output,
            // made when it is first selected.
            let place = self.of_input[row as usize].get_or_insert_with(|| {
                out.add_row_with_name_flag(FlaggedLabels::new(
                    input.labels[row as usize].clone(),
                    input.drops(row as usize),
                )) as u32
            });
            answer.rows.add(*place, input, row as usize);
        }
        Ok(())
    }

    /// Rejects an invalid parameter, even if there is nothing to aggregate.
    fn check(&self, param: f64) -> Result<(), EvalError> {
        let refused = |text: String| Err(EvalError(text));
        match self.op {
            AggregateOp::LimitRatio if param.is_nan() => refused("Ratio value is NaN".to_owned()),
            AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk => check_count(param),
            AggregateOp::CountValues => match self.text.as_deref().unwrap_or("") {
                label if label.is_empty() || !go_text::is_utf8(label) => {
                    refused(format!("invalid label name {}", go_text::quote(label)))
                }
                label => check_name("count_values()", label).map_err(|e| EvalError(e.to_string())),
            },
            _ => Ok(()),
        }
    }

    /// The effective parameter: if it is out of its range there is a warning, and a ratio is
    /// limited to the range.
    fn warned(&self, param: f64, annotations: &mut Vec<StepAnnotation>) -> f64 {
        match self.op {
            AggregateOp::Quantile if !(0.0..=1.0).contains(&param) => {
                annotations.push(texts::invalid_quantile_of_steps(AnnotationTarget::Operand(0), param));
                param
            }
            AggregateOp::LimitRatio if !(-1.0..=1.0).contains(&param) => {
                let capped = param.clamp(-1.0, 1.0);
                annotations.push(texts::invalid_ratio(AnnotationTarget::Operand(0), param));
                capped
            }
            _ => param,
        }
    }

    /// `quantile`, `stddev`, `stdvar`: one row per group, from its floats.
    fn reduce(
        &mut self,
        group: usize,
        param: f64,
        input: &StepOutput,
        out: &mut StepOutput,
        answer: &mut GroupAnswer,
    ) {
        let members = self.groups.members(group).iter().map(|r| input.values[*r as usize]);
        // A copy, since the quantile rearranges the values.
        let mut present: Vec<f64> = members.filter(|v| !is_absent(*v)).collect();
        if !input.histograms.is_empty() {
            let before = present.len();
            present.retain(|v| !is_histogram(*v));
            answer.ignored |= present.len() < before;
        }
        let Some(first) = present.first().copied() else { return };
        let value = match self.op {
            AggregateOp::Quantile => quantile(param, &mut present),
            op => {
                let mut deviation = VariancePartial::from_first(first);
                for v in &present[1..] {
                    deviation.add(*v);
                }
                if op == AggregateOp::Stddev { deviation.deviation() } else { deviation.variance() }
            }
        };
        let labels = self.groups.labels[group].clone();
        let drops = self.groups.drops[group];
        answer.rows.values.push((self.row_of_labels(labels, drops, out), value));
    }

    /// `count_values`: one row per group and distinct value. The value replaces an existing label
    /// of that name, so rows of several groups may be counted together. Only changed rows are
    /// counted again.
    fn count_values(
        &mut self,
        input: &StepInput,
        known: usize,
        out: &mut StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        let label = self.text.clone().unwrap_or_default();
        self.counted.of_input.resize(input.out.labels.len(), None);
        let mut moved = Vec::new();
        // New rows may be in both parts. The second visit finds nothing changed.
        for row in input.rows().chain(known..input.out.labels.len()) {
            out.rows_looked_at += 1;
            eval_guard.row()?;
            let value = match input.out.cell(row) {
                SampleRef::Absent => None,
                SampleRef::Float(value) => Some(plain(value)),
                SampleRef::Histogram(histogram) => Some(histogram.to_string()),
            };
            let now = match value {
                None => None,
                Some(value) => {
                    // The value becomes a label, and a histogram's text may be long.
                    check_value("count_values()", &label, value.len())
                        .map_err(|e| EvalError(e.to_string()))?;
                    let of = &self.groups.labels[self.groups.of_row[row] as usize];
                    let labels = of.with_sorted([(label.as_str(), value.as_str())]);
                    let labels = group_key_of_count(&self.grouping, &label, labels);
                    if !self.by_labels.contains_key(&labels) {
                        eval_guard.labels(&labels)?;
                    }
                    Some(self.row_of_labels(labels, false, out))
                }
            };
            self.counted.counts.resize(out.labels.len(), 0);
            // Counting is exact, so unlike sums a count may be updated by subtraction.
            let before = std::mem::replace(&mut self.counted.of_input[row], now);
            if let Some(row) = before {
                self.counted.counts[row as usize] -= 1;
            }
            if let Some(row) = now {
                self.counted.counts[row as usize] += 1;
            }
            moved.extend(before.into_iter().chain(now));
        }
        let mut touched = Vec::new();
        for row in moved {
            let count = self.counted.counts[row as usize];
            // Set after all rows were counted: a row may leave and enter the same count.
            out.set(row as usize, if count == 0 { ABSENT } else { f64::from(count) }, &mut touched);
        }
        out.changed = ChangedRows::Rows(touched);
        Ok(())
    }

    /// Computes the marked groups.
    fn groups(
        &mut self,
        param: f64,
        input: &StepOutput,
        out: &mut StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        let mut answer = GroupAnswer::default();
        let mut touched = Vec::new();
        for group in self.dirty.take() {
            let at = group as usize;
            let members = self.groups.members(at).len();
            eval_guard.rows(1 + members)?;
            out.rows_looked_at += members;
            match self.op {
                AggregateOp::Quantile | AggregateOp::Stddev | AggregateOp::Stdvar => {
                    self.reduce(at, param, input, out, &mut answer);
                }
                _ => self.pick(at, param, input, &mut *out, &mut answer, eval_guard)?,
            }
            self.ignoring.set(at, std::mem::take(&mut answer.ignored));
            self.answers.replace(group, &mut answer.rows, out, &mut touched);
        }
        out.changed = ChangedRows::Rows(touched);
        Ok(())
    }
}

/// `without (label)` also removes the label that `count_values` has set, and `without` always
/// removes the metric name.
fn group_key_of_count(grouping: &Grouping, label: &str, labels: Labels) -> Labels {
    if grouping.without && (label == METRIC_NAME || grouping.labels.iter().any(|l| l == label)) {
        labels.filter(|n| n != label)
    } else {
        labels
    }
}

/// The order of the result: best first, NaN last.
fn rank(a: f64, b: f64, descending: bool) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        // Equal values keep their order, because the sort is stable: so the earlier labels win.
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        _ if descending => b.partial_cmp(&a).unwrap_or(Ordering::Equal),
        _ => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
    }
}

/// Rejects an invalid `k` of `topk`, `bottomk` or `limitk`.
fn check_count(param: f64) -> Result<(), EvalError> {
    if param.is_nan() {
        return Err(EvalError("Parameter value is NaN".to_owned()));
    }
    const INT64: f64 = (1u64 << 63) as f64;
    // Values below one select nothing, however low they are.
    if param >= INT64 {
        return Err(EvalError(format!("Scalar value {} overflows int64", general(param))));
    }
    Ok(())
}

/// Whether `limit_ratio` selects a series: the same series as in Prometheus.
fn in_ratio(labels: &Labels, ratio: f64) -> bool {
    let place = labels.sampling_hash() as f64 / u64::MAX as f64;
    // A negative ratio selects the complement: `limit_ratio(0.3)` and `limit_ratio(-0.7)` together
    // are everything.
    if ratio >= 0.0 { place < ratio } else { place >= 1.0 + ratio }
}

impl Operator for WholeGroup {
    fn eval(
        &mut self,
        inputs: &[StepInput],
        _: TimeMs,
        out: &mut StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        let input = inputs[0].out;
        let param = inputs.get(1).map_or(f64::NAN, scalar_of);
        self.check(param)?;
        let mut annotations = Vec::new();
        let param = if inputs.len() > 1 { self.warned(param, &mut annotations) } else { param };
        let grouping = &self.grouping;
        let known = self.groups.of_row.len();
        let key = |labels: &Labels| group_key(grouping, labels);
        self.groups.add_rows_and_mark(&inputs[0], &mut self.dirty, key, eval_guard)?;
        // The parameter decides in every group. It is compared by bits, so that NaN equals itself.
        if self.param.replace(param).is_none_or(|before| before.to_bits() != param.to_bits()) {
            self.dirty.mark_all(self.groups.len());
        }
        if self.op == AggregateOp::CountValues {
            // `count_values` works with rows and not with groups, but the marks must not pile up.
            self.dirty.take();
            self.count_values(&inputs[0], known, out, eval_guard)?;
        } else {
            self.groups(param, input, out, eval_guard)?;
        }
        if self.ignoring.count > 0 {
            // The annotation refers to the vector, which is the last argument (`stddev` and
            // `stdvar` have no other); for aggregations that select rows it refers to the whole
            // expression.
            let target = match self.op {
                AggregateOp::Topk | AggregateOp::Bottomk => AnnotationTarget::Whole,
                _ => AnnotationTarget::Operand(u8::from(inputs.len() > 1)),
            };
            annotations.push(texts::ignored_in_aggregation(target, self.op.as_str()));
        }
        out.annotations.replace(annotations);
        Ok(())
    }

    fn bytes(&self) -> usize {
        let rows = self.of_input.heap() + self.by_labels.heap() + self.answers.heap();
        let counted = self.counted.of_input.heap() + self.counted.counts.heap();
        self.groups.heap() + rows + self.dirty.heap() + self.ignoring.marked.heap() + counted
    }
}
