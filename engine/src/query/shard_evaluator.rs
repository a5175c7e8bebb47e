//! One piece of a query: the local stage (what a shard computes from its own series) of one shard
//! over one block of steps (some consecutive evaluation times).
//!
//! Each leaf ([`super::leaf`]) writes a value block ([`super::value_block`]). From it the other
//! steps are evaluated, one evaluation time after the other. Two cases are faster because they
//! compute a whole block at once: aggregates of leaves ([`super::block_aggregate`]), and a leaf
//! that is itself the answer.

use super::block_aggregate::{self, BlockAggregate};
use super::guard::QueryGuard;
use super::leaf::{LeafBlockInput, LeafEvaluator, LeafScratch};
use super::query_run::TimeGrid;
use super::remote_stores::HistorySource;
use super::scalar_params::{ScalarParam, ScalarParamOperator};
use super::value_block::ValueBlock;
use super::{QueryError, QueryOptions};
use crate::annotations::{AnnotationSet, StepOrigin};
use crate::operators::evaluation_guard::EvaluationGuard;
use crate::operators::stage::Stage;
use crate::operators::{ChangedRows, EvalError, StepOutput};
use crate::plan::Dialect;
use crate::plan::physical::{PhysicalPlan, StepId, StepOp};
use crate::types::histogram_column::HistogramColumn;
use serde::{Deserialize, Serialize};
use storage::model::{Labels, TimeMs};

/// Rows and values of one port over a block of steps.
#[derive(Default, Serialize, Deserialize)]
pub struct PortBlock {
    /// Labels by row, complete from the first block on.
    pub labels: Vec<Labels>,
    /// As [`StepOutput::drops`].
    pub drops: Vec<bool>,
    /// The values by step.
    pub steps: Vec<StepValues>,
    /// Instead of `steps`: the values of a leaf that is itself the answer.
    pub rows: Option<ValueBlock>,
}

/// The values of one step of a port.
#[derive(Default, Serialize, Deserialize)]
pub struct StepValues {
    /// `[column][row]`.
    pub floats: Vec<Vec<f64>>,
    /// As [`StepOutput::histograms`].
    pub histograms: HistogramColumn,
    /// As [`StepOutput::histogram_compensations`].
    pub compensations: HistogramColumn,
}

/// The local stage of one shard in a query.
pub struct ShardEvaluator {
    stage: Stage,
    leaves: Vec<LeafEvaluator>,
    order: Vec<StepId>,
    ports: Vec<StepId>,
    lookback: i64,
    grid: TimeGrid,
    scratch: LeafScratch,
    origins: Vec<StepOrigin>,
    annotations: AnnotationSet,
    shortcut: BlockShortcut,
}

/// How the ports are computed without evaluating every step.
enum BlockShortcut {
    /// They are not.
    No,
    /// All ports are aggregates of leaves.
    Aggregates(Vec<BlockAggregate>),
    /// The only port is a leaf, which is the answer.
    Rows(StepId),
}

impl ShardEvaluator {
    /// Selects the series of `shard`; `None` if there are none, so that the shard is not part of
    /// the query.
    pub(super) fn new(
        history: &HistorySource,
        shard: u16,
        physical: &PhysicalPlan,
        scalar_params: &[ScalarParam],
        grid: TimeGrid,
        options: &QueryOptions,
        guard: &QueryGuard,
    ) -> Result<Option<ShardEvaluator>, QueryError> {
        let mut leaves = Vec::new();
        for (id, step) in physical.local.iter().enumerate() {
            if let StepOp::Leaf(source, leaf) = &step.op {
                leaves.push(LeafEvaluator::new(
                    history,
                    shard,
                    id,
                    source,
                    leaf,
                    step.inputs.clone(),
                    grid,
                    options,
                )?);
            }
        }
        // Without series there are no rows at any step. Scalars are computed in the gather stage,
        // too.
        if leaves.iter().all(|leaf| leaf.selection.labels.is_empty()) {
            return Ok(None);
        }
        let mut stage = Stage::with_steps(&physical.local, options.dialect);
        for (id, step) in physical.local.iter().enumerate() {
            if let StepOp::ScalarParam(number) = step.op {
                stage.set_operator(
                    id,
                    Box::new(ScalarParamOperator::new(grid, scalar_params[number].clone())),
                );
            }
        }
        for leaf in &leaves {
            guard
                .paced(|eval_guard| leaf.add_rows(options.dialect, stage.output_mut(leaf.id), eval_guard))?;
        }
        let order = (0..physical.local.len()).collect();
        let ports = ports_of(physical);
        Ok(Some(ShardEvaluator {
            stage,
            leaves,
            order,
            ports,
            lookback: options.lookback,
            grid,
            scratch: LeafScratch::default(),
            origins: physical.local_origins.clone(),
            annotations: AnnotationSet::default(),
            shortcut: shortcut(physical, options.dialect),
        }))
    }

    /// Number of selected series.
    pub fn rows(&self) -> usize {
        self.leaves.iter().map(|leaf| leaf.selection.labels.len()).sum()
    }

    /// Evaluates steps `from..to` of the grid.
    pub fn block(
        &mut self,
        from: usize,
        to: usize,
        guard: &QueryGuard,
    ) -> Result<Vec<PortBlock>, QueryError> {
        let times: Vec<TimeMs> = (from..to).map(|i| self.grid.time(i)).collect();
        for leaf in &mut self.leaves {
            let params = guard.paced(|eval_guard| leaf.params(&times, &mut self.stage, eval_guard))?;
            // Offset and `@` move the window, not the evaluation time.
            let ends = leaf.ends(&times, self.grid);
            let span = leaf.span(&ends, self.lookback);
            let times = &times[..];
            let params = &params[..];
            let ends = &ends[..];
            let block_input = LeafBlockInput { times, ends, params, span, lookback: self.lookback, guard };
            let origin = self.origins.get(leaf.id).cloned().unwrap_or_default();
            leaf.fill(&block_input, &mut self.scratch, &origin, &mut self.annotations)?;
        }
        // Tried for each block: whether it is possible depends on the samples of the block.
        if let Some(blocks) = guard.paced(|eval_guard| self.shortcut(times.len(), eval_guard))? {
            return Ok(blocks);
        }
        let mut blocks: Vec<PortBlock> = self.ports.iter().map(|_| PortBlock::default()).collect();
        for (i, t) in times.iter().enumerate() {
            guard.check()?;
            guard.paced(|eval_guard| {
                self.step(i, *t, eval_guard)?;
                let mut outputs = blocks.iter_mut().zip(&self.ports);
                outputs.try_for_each(|(block, port)| block.push(self.stage.output(*port), eval_guard))
            })?;
        }
        Ok(blocks)
    }

    /// The blocks of the ports, if they can be computed without evaluating every step.
    fn shortcut(
        &mut self,
        steps: usize,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<Option<Vec<PortBlock>>, EvalError> {
        if matches!(self.shortcut, BlockShortcut::No) {
            return Ok(None);
        }
        let stage = &self.stage;
        for leaf in &mut self.leaves {
            // Histograms and equal labels need the checks of the operators, step by step.
            if !leaf.is_simple(stage.output(leaf.id), eval_guard)? {
                return Ok(None);
            }
        }
        let leaf = |leaves: &[LeafEvaluator], id: StepId| leaves.iter().position(|leaf| leaf.id == id);
        match &mut self.shortcut {
            BlockShortcut::No => Ok(None),
            BlockShortcut::Aggregates(all) => {
                let mut blocks = Vec::new();
                for aggregate in all {
                    let Some(at) = leaf(&self.leaves, aggregate.leaf) else { return Ok(None) };
                    let rows = stage.output(aggregate.leaf);
                    blocks.push(aggregate.over(rows, &self.leaves[at].block, steps, eval_guard)?);
                }
                Ok(Some(blocks))
            }
            BlockShortcut::Rows(id) => {
                let Some(at) = leaf(&self.leaves, *id) else { return Ok(None) };
                // Moved and not copied: the next block fills a new one.
                let rows = Some(std::mem::take(&mut self.leaves[at].block));
                let labels = stage.output(*id).labels.clone();
                Ok(Some(vec![PortBlock { labels, rows, ..PortBlock::default() }]))
            }
        }
    }

    fn step(&mut self, i: usize, t: TimeMs, eval_guard: &mut EvaluationGuard) -> Result<(), EvalError> {
        for leaf in &mut self.leaves {
            let out = self.stage.output_mut(leaf.id);
            eval_guard.samples(out.labels.len())?;
            leaf.block.step(i, &mut out.values);
            // The column of the step before goes into the block, where nothing reads it any more.
            std::mem::swap(&mut out.histograms, &mut leaf.histograms[i]);
            out.version += 1;
            out.changed = ChangedRows::All;
            // Rows in strict label order cannot have equal labels, which saves the check for almost
            // every leaf.
            if !out.sorted {
                leaf.duplicates.add_rows(out, eval_guard)?;
                leaf.duplicates.check_ever(out, eval_guard)?;
            }
        }
        for id in &self.order {
            self.stage.eval_paced(*id, t, eval_guard);
        }
        self.stage.annotate(&self.origins, &mut self.annotations, eval_guard)
    }

    /// The annotations of the steps.
    pub fn into_annotations(self) -> AnnotationSet {
        self.annotations
    }
}

/// The local steps that the gather stage reads, in the order in which it names them.
pub fn ports_of(physical: &PhysicalPlan) -> Vec<StepId> {
    physical
        .gather
        .iter()
        .filter_map(|step| if let StepOp::Port(id) = step.op { Some(id) } else { None })
        .collect()
}

fn shortcut(physical: &PhysicalPlan, dialect: Dialect) -> BlockShortcut {
    // With delayed names rows change during the evaluation, which only happens step by step.
    if dialect.delayed_names {
        return BlockShortcut::No;
    }
    let ports = ports_of(physical);
    if let ([port], [_]) = (&ports[..], &physical.gather[..])
        && matches!(physical.local[*port].op, StepOp::Leaf(..))
    {
        return BlockShortcut::Rows(*port);
    }
    block_aggregate::aggregates_of_ports(physical, &ports)
        .map_or(BlockShortcut::No, BlockShortcut::Aggregates)
}

impl PortBlock {
    /// Splits values by row into values by step.
    pub fn cut_steps(&mut self, steps: usize, eval_guard: &mut EvaluationGuard) -> Result<(), EvalError> {
        // It has steps already.
        let Some(block) = self.rows.take() else { return Ok(()) };
        for i in 0..steps {
            eval_guard.samples(self.labels.len())?;
            let mut values = Vec::new();
            block.step(i, &mut values);
            self.steps.push(StepValues { floats: vec![values], ..StepValues::default() });
        }
        Ok(())
    }

    fn push(&mut self, out: &StepOutput, eval_guard: &mut EvaluationGuard) -> Result<(), EvalError> {
        if let Some(error) = &out.error {
            return Err(EvalError(error.clone()));
        }
        eval_guard.samples(out.values.len() * (1 + out.partial_columns.len()))?;
        // Copied only when there are new ones: a clone of a label set is cheap, of a thousand at
        // each step it is not.
        if self.labels.len() < out.labels.len() {
            self.labels = out.labels.clone();
        }
        if self.drops != out.drops_name {
            self.drops = out.drops_name.clone();
        }
        let mut floats = Vec::with_capacity(1 + out.partial_columns.len());
        floats.push(out.values.clone());
        floats.extend(out.partial_columns.iter().cloned());
        let histograms = out.histograms.clone();
        let compensations = out.histogram_compensations.clone();
        self.steps.push(StepValues { floats, histograms, compensations });
        Ok(())
    }
}
