//! Partial aggregates of a whole block of steps (some consecutive evaluation times of a range
//! query) at once.
//!
//! Most queries aggregate the values of a leaf (a selector or a window function): `sum by (job)
//! (rate(…))`. Step by step, that would be a walk over all series per step, scattered over memory.
//! Here each series is walked once, along its steps, and added to the partial results of its group.
//! The additions of a group and step are in the order of the members, as in
//! [`crate::operators::aggregate`], so the results are equal to the last bit.

use super::shard_evaluator::{PortBlock, StepValues};
use super::value_block::ValueBlock;
use crate::functions::aggregation::{AvgPartial, SumPartial, max, min};
use crate::operators::aggregate::columns;
use crate::operators::evaluation_guard::EvaluationGuard;
use crate::operators::grouping::{RowGroups, group_key};
use crate::operators::{EvalError, StepOutput};
use crate::plan::physical::{PhysicalPlan, StepId, StepOp};
use crate::plan::{AggregateOp, Grouping};
use storage::model::Labels;
use storage::model::value::{ABSENT, is_absent};

/// A local aggregate over a leaf.
pub(super) struct BlockAggregate {
    /// The leaf that the aggregation reads.
    pub leaf: StepId,
    /// `sum`, `avg` and so on.
    op: AggregateOp,
    /// `by` or `without`.
    grouping: Grouping,
    /// Which series is in which group.
    groups: RowGroups,
}

/// The aggregates of a query's ports, in their order; `None` if any port is something else.
pub(super) fn aggregates_of_ports(physical: &PhysicalPlan, ports: &[StepId]) -> Option<Vec<BlockAggregate>> {
    let aggregate = |port: &StepId| {
        let step = &physical.local[*port];
        let (StepOp::PartialAggregate(op, grouping), [leaf]) = (&step.op, &step.inputs[..]) else {
            return None;
        };
        let plain = matches!(physical.local[*leaf].op, StepOp::Leaf(..));
        plain.then(|| BlockAggregate {
            leaf: *leaf,
            op: *op,
            grouping: grouping.clone(),
            groups: RowGroups::default(),
        })
    };
    ports.iter().map(aggregate).collect()
}

impl BlockAggregate {
    /// The partial results of a block; `rows` has the labels of the leaf.
    pub(super) fn over(
        &mut self,
        rows: &StepOutput,
        block: &ValueBlock,
        steps: usize,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<PortBlock, EvalError> {
        let grouping = &self.grouping;
        self.groups.add_rows(rows, |labels| group_key(grouping, labels), eval_guard)?;
        let mut out = StepAccumulators::new(self.groups.len(), columns(self.op), steps);
        for group in 0..self.groups.len() {
            let members = self.groups.members(group);
            eval_guard.samples(members.len().saturating_mul(steps))?;
            self.group(group, members.iter().map(|row| block.row(*row as usize)), &mut out);
        }
        Ok(out.into_port(&self.groups.labels))
    }

    fn group<'a>(&self, group: usize, members: impl Iterator<Item = &'a [f64]>, out: &mut StepAccumulators) {
        match self.op {
            AggregateOp::Sum => {
                out.fold(group, members, SumPartial::from_first, SumPartial::add, |sum| {
                    let [sum, c] = sum.columns();
                    [sum, c, ABSENT]
                });
            }
            AggregateOp::Avg => {
                out.fold(group, members, AvgPartial::from_first, AvgPartial::add, AvgPartial::columns)
            }
            AggregateOp::Min => out.fold(group, members, |v| v, |m, v| *m = min(*m, v), to_single_column),
            AggregateOp::Max => out.fold(group, members, |v| v, |m, v| *m = max(*m, v), to_single_column),
            AggregateOp::Group => out.fold(group, members, |_| 1.0, |_, _| (), to_single_column),
            _ => out.fold(group, members, |_| 1.0, |n, _| *n += 1.0, to_single_column),
        }
    }
}

fn to_single_column(value: &f64) -> [f64; 3] {
    [*value, ABSENT, ABSENT]
}

/// Partial results by step.
struct StepAccumulators {
    steps: Vec<StepValues>,
}

impl StepAccumulators {
    fn new(groups: usize, columns: usize, steps: usize) -> StepAccumulators {
        let step = || StepValues { floats: vec![vec![ABSENT; groups]; columns], ..StepValues::default() };
        StepAccumulators { steps: (0..steps).map(|_| step()).collect() }
    }

    /// Aggregates the rows of one group: `of` makes a partial result of the first value, `add` adds
    /// the others, `columns` gives its columns.
    fn fold<'a, A: Copy>(
        &mut self,
        group: usize,
        members: impl Iterator<Item = &'a [f64]>,
        of: impl Fn(f64) -> A,
        add: impl Fn(&mut A, f64),
        columns: impl Fn(&A) -> [f64; 3],
    ) {
        let mut sums: Vec<Option<A>> = vec![None; self.steps.len()];
        for row in members {
            for (sum, value) in sums.iter_mut().zip(row).filter(|(_, value)| !is_absent(**value)) {
                match sum {
                    Some(sum) => add(sum, *value),
                    None => *sum = Some(of(*value)),
                }
            }
        }
        for (step, sum) in self.steps.iter_mut().zip(&sums) {
            let Some(sum) = sum else { continue };
            for (lane, value) in step.floats.iter_mut().zip(columns(sum)) {
                lane[group] = value;
            }
        }
    }

    fn into_port(self, labels: &[Labels]) -> PortBlock {
        PortBlock { labels: labels.to_vec(), steps: self.steps, ..PortBlock::default() }
    }
}
