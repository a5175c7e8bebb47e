//! Aggregations in two stages (`sum`, `avg`, `min`, `max`, `count`, `group`): each shard computes a
//! partial aggregate of its series, and one worker merges them.
//!
//! Partial aggregates are several columns of the output: `sum` has (sum, compensation), `avg` (sum,
//! compensation, count), all others one. Only groups whose members changed are computed again, each
//! from all of its members in a fixed order. Sums are never updated by subtraction: that would
//! accumulate rounding errors, and an Inf could not be subtracted. Groups with native histograms
//! are in [`super::histogram_aggregate`]; aggregations that cannot be merged are in
//! [`super::whole_group`].

use super::evaluation_guard::EvaluationGuard;
use super::group_index::DirtyGroups;
use super::grouping::{RowGroups, group_key};
use super::histogram_aggregate::{GroupMember, MixedGroup, PartialRow};
use super::{ChangedRows, EvalError, Operator, StepInput, StepOutput};
use crate::annotations::texts;
use crate::annotations::{AnnotationTarget, StepAnnotation};
use crate::functions::aggregation::{AvgPartial, SumPartial, max, min};
use crate::heap_size::HeapSize;
use crate::plan::{AggregateOp, Grouping};
use crate::types::histogram_column::{HistogramColumn, Sample, SampleRef, identical};
use std::sync::Arc;
use storage::model::value::{ABSENT, is_absent, is_histogram};
use storage::model::{Labels, NativeHistogram, TimeMs};

/// Number of columns of a partial aggregate.
pub fn columns(op: AggregateOp) -> usize {
    match op {
        AggregateOp::Sum => 2,
        AggregateOp::Avg => 3,
        _ => 1,
    }
}

/// The groups of an aggregation; each has a row of the output.
#[derive(Default)]
struct AggregateState {
    groups: RowGroups,
    dirty: DirtyGroups,
}

impl HeapSize for AggregateState {
    fn heap(&self) -> usize {
        self.groups.heap() + self.dirty.heap()
    }
}

impl AggregateState {
    /// The groups that this evaluation must compute.
    fn dirty_groups(
        &mut self,
        input: &StepInput,
        out: &mut StepOutput,
        columns: usize,
        key: impl FnMut(&Labels) -> Labels,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<Vec<u32>, EvalError> {
        // Before rows are added, since a new row is added to every column.
        out.partial_columns.resize_with(columns - 1, Vec::new);
        if self.groups.add_rows_and_mark(input, &mut self.dirty, key, eval_guard)? {
            // A group is a row of the output with the same number.
            for group in out.labels.len()..self.groups.len() {
                out.sorted = false;
                out.add_row(self.groups.labels[group].clone());
            }
            let dropping = (0..self.groups.len()).filter(|group| self.groups.drops[*group]);
            for group in dropping {
                out.mark_name_dropped(group);
            }
        }
        let dirty = self.dirty.take();
        out.rows_looked_at = dirty.iter().map(|group| self.groups.members(*group as usize).len()).sum();
        Ok(dirty)
    }
}

/// The stage of an aggregation that each shard computes.
pub struct PartialAggregate {
    op: AggregateOp,
    grouping: Grouping,
    grouped: AggregateState,
}

impl PartialAggregate {
    /// The operator for [`crate::plan::physical::StepOp::PartialAggregate`].
    pub fn new(op: AggregateOp, grouping: Grouping) -> PartialAggregate {
        PartialAggregate { op, grouping, grouped: AggregateState::default() }
    }
}

impl Operator for PartialAggregate {
    fn eval(
        &mut self,
        inputs: &[StepInput],
        _: TimeMs,
        out: &mut StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        let grouping = &self.grouping;
        let key = |labels: &Labels| group_key(grouping, labels);
        let dirty = self.grouped.dirty_groups(&inputs[0], out, columns(self.op), key, eval_guard)?;
        let input = inputs[0].out;
        let mut touched = Vec::new();
        for group in dirty {
            let members = self.grouped.groups.members(group as usize);
            eval_guard.rows(1 + members.len())?;
            // Almost no input has histograms, and this check costs nothing then.
            let holds_histograms = !input.histograms.is_empty()
                && members.iter().any(|row| is_histogram(input.values[*row as usize]));
            let (row, annotations) = if holds_histograms {
                partial_of_any(self.op, members, input, eval_guard)?
            } else {
                let values = members.iter().map(|r| input.values[*r as usize]).filter(|v| !is_absent(*v));
                // Members come in the fixed order, so the same members always give the same bits.
                (PartialRow::from_columns(partial(self.op, values)), Vec::new())
            };
            out.annotations.set_row(group as usize, annotations);
            write(out, group as usize, row, &mut touched);
        }
        out.changed = ChangedRows::Rows(touched);
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.grouped.heap()
    }
}

/// The partial aggregate of a group with native histograms, and its annotations.
fn partial_of_any(
    op: AggregateOp,
    members: &[u32],
    input: &StepOutput,
    eval_guard: &mut EvaluationGuard,
) -> Result<(PartialRow, Vec<StepAnnotation>), EvalError> {
    let values = members.iter().map(|r| input.values[*r as usize]).filter(|v| !is_absent(*v));
    Ok(match op {
        AggregateOp::Sum | AggregateOp::Avg => {
            let mut mixture = MixedGroup::new(op);
            for row in members {
                eval_guard.row()?;
                match input.cell(*row as usize) {
                    SampleRef::Absent => {}
                    SampleRef::Float(_) => mixture.add(GroupMember::Float, ""),
                    SampleRef::Histogram(h) => {
                        mixture.add(GroupMember::One(h), input.labels[*row as usize].name())
                    }
                }
            }
            mixture.into_row()
        }
        // These ignore histograms, with an info. The group still exists, because its floats count.
        AggregateOp::Min | AggregateOp::Max => {
            let row = PartialRow::from_columns(partial(op, values.filter(|v| !is_histogram(*v))));
            (row, vec![texts::ignored_in_aggregation(AnnotationTarget::Operand(0), op.as_str())])
        }
        _ => (PartialRow::from_columns(partial(op, values)), Vec::new()),
    })
}

/// The columns of the partial aggregate of some values; the first is ABSENT if there are none.
fn partial(op: AggregateOp, mut values: impl Iterator<Item = f64>) -> [f64; 3] {
    let Some(first) = values.next() else { return [ABSENT; 3] };
    match op {
        AggregateOp::Sum => {
            let mut sum = SumPartial::from_first(first);
            for v in values {
                sum.add(v);
            }
            let [sum, c] = sum.columns();
            [sum, c, ABSENT]
        }
        AggregateOp::Avg => {
            let mut avg = AvgPartial::from_first(first);
            for v in values {
                avg.add(v);
            }
            avg.columns()
        }
        AggregateOp::Min => [values.fold(first, min), ABSENT, ABSENT],
        AggregateOp::Max => [values.fold(first, max), ABSENT, ABSENT],
        // The third column is only `avg`'s. Absent columns are not sent.
        AggregateOp::Group => [1.0, ABSENT, ABSENT],
        _ => [(1 + values.count()) as f64, ABSENT, ABSENT],
    }
}

fn write(out: &mut StepOutput, row: usize, new: PartialRow, touched: &mut Vec<u32>) {
    // By bits: a NaN that stays the same NaN is no change, and `0` is not `-0`.
    let mut changed = out.values[row].to_bits() != new.columns[0].to_bits();
    out.values[row] = new.columns[0];
    for (lane, value) in out.partial_columns.iter_mut().zip(&new.columns[1..]) {
        changed |= lane[row].to_bits() != value.to_bits();
        lane[row] = *value;
    }
    changed |= replace(&mut out.histograms, row, new.histogram);
    changed |= replace(&mut out.histogram_compensations, row, new.compensation);
    if changed {
        touched.push(row as u32);
    }
}

/// Sets or removes a histogram. Returns whether that is a change.
fn replace(column: &mut HistogramColumn, row: usize, new: Option<Arc<NativeHistogram>>) -> bool {
    let same = match (column.get(row), &new) {
        (None, None) => true,
        (Some(a), Some(b)) => identical(a, b),
        _ => false,
    };
    if !same {
        column.set(row, new);
    }
    !same
}

/// Merges the partial aggregates of all shards, in the order of the shards.
pub struct MergeAggregate {
    op: AggregateOp,
    /// The aggregated metric, for annotations; "" if the query does not name one.
    metric: String,
    grouped: AggregateState,
}

impl MergeAggregate {
    /// The operator for [`crate::plan::physical::StepOp::MergeAggregate`].
    pub fn new(op: AggregateOp, metric: &str) -> MergeAggregate {
        MergeAggregate { op, metric: metric.to_owned(), grouped: AggregateState::default() }
    }

    /// The aggregate of a group with native histograms, and its annotations.
    fn merge_any(
        &self,
        input: &StepOutput,
        rows: impl Iterator<Item = usize>,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(Sample, Vec<StepAnnotation>), EvalError> {
        let mut mixture = MixedGroup::new(self.op);
        for row in rows {
            eval_guard.row()?;
            let lane = |i: usize| input.partial_columns.get(i).map_or(ABSENT, |lane| lane[row]);
            let columns = [input.values[row], lane(0), lane(1)];
            let member = GroupMember::from_row(
                self.op,
                columns,
                input.histograms.get(row),
                input.histogram_compensations.get(row),
            );
            mixture.add(member, &self.metric);
        }
        Ok(mixture.into_sample())
    }
}

impl Operator for MergeAggregate {
    fn eval(
        &mut self,
        inputs: &[StepInput],
        _: TimeMs,
        out: &mut StepOutput,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        let dirty = self.grouped.dirty_groups(&inputs[0], out, 1, Clone::clone, eval_guard)?;
        let mut touched = Vec::new();
        let input = inputs[0].out;
        for group in dirty {
            let members = self.grouped.groups.members(group as usize);
            eval_guard.rows(1 + members.len())?;
            let members = members.iter().map(|r| *r as usize);
            // A shard without members of the group at this time has a row, because rows stay, but
            // no value.
            let mut members = members.filter(|r| !is_absent(input.values[*r]));
            // A number with a histogram beside it is the part of a shard that has both kinds.
            let any = |r: usize| is_histogram(input.values[r]) || input.histograms.get(r).is_some();
            if members.clone().any(any) {
                let (sample, annotations) = self.merge_any(input, members, eval_guard)?;
                out.annotations.set_row(group as usize, annotations);
                out.put(group as usize, sample, &mut touched);
            } else {
                out.annotations.set_row(group as usize, Vec::new());
                out.set(group as usize, merge(self.op, input, &mut members), &mut touched);
            }
        }
        out.changed = ChangedRows::Rows(touched);
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.grouped.heap()
    }
}

fn merge(op: AggregateOp, input: &StepOutput, mut rows: impl Iterator<Item = usize>) -> f64 {
    let lane = |i: usize, row: usize| input.partial_columns.get(i).map_or(ABSENT, |lane| lane[row]);
    let Some(first) = rows.next() else { return ABSENT };
    let start = input.values[first];
    match op {
        AggregateOp::Sum => {
            let mut sum = SumPartial::from_columns([start, lane(0, first)]);
            for r in rows {
                sum.merge(&SumPartial::from_columns([input.values[r], lane(0, r)]));
            }
            sum.value()
        }
        AggregateOp::Avg => {
            let at = |r: usize| AvgPartial::from_columns([input.values[r], lane(0, r), lane(1, r)]);
            let mut avg = at(first);
            for r in rows {
                avg.merge(&at(r));
            }
            avg.value()
        }
        AggregateOp::Min => rows.fold(start, |m, r| min(m, input.values[r])),
        AggregateOp::Max => rows.fold(start, |m, r| max(m, input.values[r])),
        AggregateOp::Group => 1.0,
        // Counts of shards are added; they are exact up to 2^53.
        _ => rows.fold(start, |n, r| n + input.values[r]),
    }
}
