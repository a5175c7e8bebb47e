//! Runs one physical plan over history: selects series, evaluates blocks of steps (some consecutive
//! evaluation times) on all shards, runs the gather stage (what merges the shards) step by step,
//! and returns the rows.

use super::guard::{POINT_BYTES, QueryGuard, histogram_bytes};
use super::leaf;
use super::peers::client::PeerQuery;
use super::pool::{Pool, QueryPools};
use super::remote_stores::HistorySource;
use super::result::QueryResult;
use super::scalar_params::ScalarParam;
use super::shard_evaluator::{PortBlock, ShardEvaluator, StepValues, ports_of};
use super::subquery::SlidingWindow;
use super::subquery_rows::SubqueryRows;
use super::{QueryError, QueryOptions, Series};
use crate::annotations::{AnnotationSet, StepOrigin};
use crate::limits::{
    BLOCK_SHARE, BLOCK_STEPS, BLOCK_VALUE_BYTES, BLOCK_VALUES, INLINE_ROWS, INLINE_SPAN_MS, LONG_BLOCK_STEPS,
    ROW_SAMPLES, SERIES_BYTES, SMALL_QUERY,
};
use crate::operators::evaluation_guard::EvaluationGuard;
use crate::operators::histogram_functions::HistogramQuery;
use crate::operators::info::Info;
use crate::operators::metric_names::{DropNames, FlaggedLabels};
use crate::operators::stage::Stage;
use crate::operators::{ChangedRows, EvalError};
use crate::plan::Dialect;
use crate::plan::physical::{PhysicalPlan, StepId, StepOp};
use crate::types::histogram_column::SampleRef;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;
use storage::model::value::is_absent;
use storage::model::{SHARDS, TimeMs};

/// The evaluation times of a query.
#[derive(Copy, Clone, Debug, Serialize, Deserialize)]
pub struct TimeGrid {
    /// First time, in ms.
    pub start: TimeMs,
    /// No time is after this, in ms.
    pub end: TimeMs,
    /// Time between steps, in ms, at least 1.
    pub step: i64,
}

impl TimeGrid {
    /// Number of steps.
    pub fn len(&self) -> usize {
        if self.end < self.start { 0 } else { ((self.end - self.start) / self.step) as usize + 1 }
    }

    /// Whether there are no steps.
    pub fn is_empty(&self) -> bool {
        self.end < self.start
    }

    /// The time of step `i`.
    pub fn time(&self, i: usize) -> TimeMs {
        self.start + i as i64 * self.step
    }
}

/// A query that is ready to run.
pub struct QueryRun {
    history: HistorySource,
    physical: Arc<PhysicalPlan>,
    grid: TimeGrid,
    options: QueryOptions,
    /// The rows of the plan's subqueries.
    subqueries: Vec<SubqueryRows>,
    /// The scalar parameters that depend on series.
    scalar_params: Arc<Vec<ScalarParam>>,
}

impl QueryRun {
    /// A query of `physical` over `grid`, with the rows of its subqueries and its scalar
    /// parameters.
    pub(super) fn new(
        history: HistorySource,
        physical: PhysicalPlan,
        grid: TimeGrid,
        options: &QueryOptions,
        subqueries: Vec<SubqueryRows>,
        scalar_params: Vec<ScalarParam>,
    ) -> QueryRun {
        let physical = Arc::new(physical);
        let scalar_params = Arc::new(scalar_params);
        QueryRun { history, physical, grid, options: options.clone(), subqueries, scalar_params }
    }

    /// Whether the query reads series.
    pub(super) fn reads_series(&self) -> bool {
        !ports_of(&self.physical).is_empty()
    }

    /// Runs the query over the series of this process and those of `peers`: the other processes,
    /// which are working on it already.
    pub(super) fn execute(
        self,
        pools: &QueryPools,
        guard: &Arc<QueryGuard>,
        mut peers: PeerQuery,
        mut annotations: AnnotationSet,
    ) -> Result<QueryResult, QueryError> {
        guard.check()?;
        // The peers have their task already and select at the same time. Their number of rows is
        // read only after this, so that nothing waits.
        let mut shards = self.select(pools, guard)?;
        let mut gather = GatherStage::new(&self.physical, self.options.dialect);
        self.add_subqueries(&mut gather.stage, guard)?;
        let steps = self.grid.len();
        // An instant query has one step, which is all steps: the operators of the plan do.
        if steps > 1 {
            gather.see_all_steps(&self.physical, self.options.dialect);
        }
        // The sizes of blocks must be the same in all processes, because blocks are merged step by
        // step. So they are chosen from the rows of the whole cluster.
        let rows = rows_of(&shards) + peers.rows(guard)?;
        let large = pools.large(rows * steps, self.physical.gather.len());
        // A large query has a pool of its own, so that it does not delay the small ones of
        // dashboards.
        let pool = if self.runs_inline(rows) { pools.inline() } else { large.unwrap_or(pools.usual()) };
        let size = block_steps(rows, guard.memory().limit());
        peers.begin(size, guard)?;
        for from in (0..steps).step_by(size) {
            guard.check()?;
            let to = (from + size).min(steps);
            // Reserved for the whole block before it is computed: when a shard notices the limit in
            // the middle, the memory is already taken.
            let _block = guard.grow_for_now(rows * (to - from) * BLOCK_VALUE_BYTES)?;
            // Own shards first: the peers have the size since `begin` and work on their block
            // meanwhile.
            let own = evaluate(&mut shards, pool, from..to, guard)?;
            let blocks = peers.block(own, to - from, guard)?;
            let times: Vec<TimeMs> = (from..to).map(|i| self.grid.time(i)).collect();
            gather = match large {
                Some(pool) => gather.block_on_pool(blocks, times, pool, guard)?,
                None => gather.block(blocks, &times, guard)?,
            };
            // After each block and not only at the end, so that a query whose answer is too large
            // stops early.
            guard.check_answer_size(gather.held)?;
        }
        let root = self.physical.presentation_step();
        // The order of an instant vector comes from its outermost operator. Everything below may
        // have any order, since matching and grouping do not see it.
        let order = matches!(root, StepOp::Sort(_) | StepOp::SortByLabel(..) | StepOp::WholeGroup(..))
            .then(|| root.clone());
        for (_, run) in shards.into_iter() {
            annotations.extend(run.into_annotations());
        }
        // Also reads the peers' errors, so it must come before the answer is declared complete.
        annotations.extend(peers.end(guard)?);
        annotations.extend(gather.annotations);
        Ok(QueryResult {
            rows: gather.rows,
            order,
            scalar: self.physical.scalar,
            annotations,
            guard: guard.clone(),
        })
    }

    /// Replaces the operators of steps over subqueries by windows over their rows.
    fn add_subqueries(&self, stage: &mut Stage, guard: &QueryGuard) -> Result<(), QueryError> {
        for (id, step) in self.physical.gather.iter().enumerate() {
            // Subqueries were evaluated before, so their steps need no input here and only slide
            // over rows.
            if let StepOp::Subquery(number, windowed) = step.op {
                let subquery = self.physical.subqueries[number].clone();
                let rows = self.subqueries[number].clone();
                let dialect = self.options.dialect;
                let window = SlidingWindow::new(subquery, windowed, self.grid, rows, dialect, guard)?;
                stage.set_operator(id, Box::new(window));
            }
        }
        Ok(())
    }

    /// Selects the series of all shards that have any. While they are few, the calling thread does
    /// it.
    pub(super) fn select(
        &self,
        pools: &QueryPools,
        guard: &Arc<QueryGuard>,
    ) -> Result<ShardGroup, QueryError> {
        let mut selected = Vec::new();
        if !self.reads_series() {
            return Ok(selected);
        }
        let mut shards = 0..SHARDS;
        // It is not known before the selection whether a query is small. So it begins as a small
        // one and hands the rest of the shards to the pool once it is not.
        while self.runs_inline(rows_of(&selected))
            && let Some(shard) = shards.next()
        {
            selected.extend(self.select_of(&[shard], pools.inline(), guard)?);
        }
        let rest: Vec<u16> = shards.collect();
        if !rest.is_empty() {
            selected.extend(self.select_of(&rest, pools.usual(), guard)?);
        }
        Ok(selected)
    }

    /// Whether the query is so small that waking a thread costs more, and nothing has to be read
    /// from disk.
    fn runs_inline(&self, rows: usize) -> bool {
        let leaves = self.physical.local.iter().filter_map(|step| match &step.op {
            StepOp::Leaf(source, leaf) => Some(leaf::reach(source, leaf, self.grid, &self.options)),
            _ => None,
        });
        let mut spans = leaves.map(|(from, to)| (from, to - from));
        // All three must hold: many rows and many steps cost time on one thread, and a read from
        // disk would block the caller's thread.
        rows <= INLINE_ROWS
            && self.grid.len() == 1
            && spans.all(|(from, span)| {
                span <= INLINE_SPAN_MS && self.history.store().status().has_in_memory(from)
            })
    }

    fn select_of(
        &self,
        shards: &[u16],
        pool: &Pool,
        guard: &Arc<QueryGuard>,
    ) -> Result<ShardGroup, QueryError> {
        let jobs = shards.chunks(shards.len().div_ceil(pool.threads().min(4))).map(|shards| {
            let history = self.history.clone();
            let physical = self.physical.clone();
            let grid = self.grid;
            let options = self.options.clone();
            let shards = shards.to_vec();
            let scalar_params = self.scalar_params.clone();
            let guard = guard.clone();
            let job = move || -> Result<ShardGroup, QueryError> {
                let mut runs = Vec::new();
                for shard in shards {
                    guard.check()?;
                    let run = ShardEvaluator::new(
                        &history,
                        shard,
                        &physical,
                        &scalar_params,
                        grid,
                        &options,
                        &guard,
                    )?;
                    // A shard without matching series takes no part: most queries touch few shards.
                    runs.extend(run.map(|run| (shard, run)));
                }
                Ok(runs)
            };
            Box::new(job) as Box<dyn FnOnce() -> Result<ShardGroup, QueryError> + Send>
        });
        let mut selected = Vec::new();
        for part in pool.run::<Result<ShardGroup, QueryError>>(jobs.collect(), guard)? {
            selected.extend(part.unwrap_or_else(lost)?);
        }
        Ok(selected)
    }
}

fn lost<T>() -> Result<T, QueryError> {
    Err(QueryError::Internal("a query thread panicked".to_owned()))
}

/// Shards that take part in a query.
pub(super) type ShardGroup = Vec<(u16, ShardEvaluator)>;
/// The results of shards for one block of steps.
pub(super) type ShardBlocks = Vec<(u16, Vec<PortBlock>)>;

/// Number of selected series.
pub(super) fn rows_of(shards: &ShardGroup) -> usize {
    shards.iter().map(|(_, run)| run.rows()).sum()
}

/// Steps in a block, for a query over `rows` series that may hold `limit` bytes.
fn block_steps(rows: usize, limit: usize) -> usize {
    let rows = rows.max(1);
    // Long blocks amortise the search for windows, but a block of many series must still fit into
    // the query's memory. At least one step, else nothing would ever be answered.
    let fit = limit / BLOCK_SHARE / BLOCK_VALUE_BYTES / rows;
    (BLOCK_VALUES / rows).clamp(BLOCK_STEPS, LONG_BLOCK_STEPS).min(fit).max(1)
}

/// Evaluates one block of steps on all shards, in parallel.
pub(super) fn evaluate(
    shards: &mut ShardGroup,
    pool: &Pool,
    steps: Range<usize>,
    guard: &Arc<QueryGuard>,
) -> Result<ShardBlocks, QueryError> {
    // Little work is divided among as many jobs as threads, to have few of them. Much work gets a
    // job for each shard, so that a thread that has finished takes another one.
    let groups = if rows_of(shards) * steps.len() < SMALL_QUERY { pool.threads() } else { shards.len() };
    let group_size = shards.len().div_ceil(groups.max(1)).max(1);
    // Jobs own their shards, since pool threads outlive this call. They give them back with their
    // results, for the next block.
    let mut rest = std::mem::take(shards).into_iter();
    let groups = std::iter::from_fn(|| {
        Some(rest.by_ref().take(group_size).collect()).filter(|group: &ShardGroup| !group.is_empty())
    });
    let jobs = groups.map(|mut group| {
        let guard = guard.clone();
        let steps = steps.clone();
        let job = move || {
            let blocks =
                group.iter_mut().map(|(shard, run)| Ok((*shard, run.block(steps.start, steps.end, &guard)?)));
            let blocks = blocks.collect::<Result<ShardBlocks, QueryError>>();
            (group, blocks)
        };
        Box::new(job) as Box<dyn FnOnce() -> (ShardGroup, Result<ShardBlocks, QueryError>) + Send>
    });
    let mut result = Vec::new();
    for part in pool.run(jobs.collect(), guard)? {
        // The shards of a job that panicked are gone, so there is nothing to continue with.
        let Some((group, blocks)) = part else { return lost() };
        result.extend(blocks?);
        shards.extend(group);
    }
    Ok(result)
}

/// The gather stage of a query.
struct GatherStage {
    stage: Stage,
    origins: Vec<StepOrigin>,
    annotations: AnnotationSet,
    /// The gather steps that are ports, in the order of the shards' port blocks.
    ports: Vec<StepId>,
    root: StepId,
    rows: Vec<Series>,
    /// Number of points in `rows`.
    held: usize,
}

impl GatherStage {
    fn new(physical: &PhysicalPlan, dialect: Dialect) -> GatherStage {
        let ports =
            (0..physical.gather.len()).filter(|id| matches!(physical.gather[*id].op, StepOp::Port(_)));
        let mut stage = Stage::with_steps(&physical.gather, dialect);
        let names = physical.gather.iter().position(|step| step.op == StepOp::DropNames);
        if let Some(id) = names {
            // At one time a histogram hides the float of the same labels. In a range query a series
            // may have both, so the operator of a query keeps both.
            stage.set_operator(id, Box::new(DropNames::for_query()));
        }
        GatherStage {
            ports: ports.collect(),
            stage,
            origins: physical.gather_origins.clone(),
            annotations: AnnotationSet::default(),
            root: physical.root,
            rows: Vec::new(),
            held: 0,
        }
    }

    /// For range queries: replaces operators whose errors or annotations depend on all steps of the
    /// query.
    fn see_all_steps(&mut self, physical: &PhysicalPlan, dialect: Dialect) {
        for (id, step) in physical.gather.iter().enumerate() {
            match &step.op {
                StepOp::Info(wanted) => {
                    self.stage.set_operator(id, Box::new(Info::over_range(wanted.clone())));
                }
                StepOp::Histogram(ask) => {
                    self.stage.set_operator(id, Box::new(HistogramQuery::over_range(ask.clone(), dialect)));
                }
                _ => {}
            }
        }
    }

    /// Like [`GatherStage::block`], on a thread of `pool`.
    fn block_on_pool(
        self,
        blocks: ShardBlocks,
        times: Vec<TimeMs>,
        pool: &Pool,
        guard: &Arc<QueryGuard>,
    ) -> Result<GatherStage, QueryError> {
        let limits = guard.clone();
        let job = move || self.block(blocks, &times, &limits);
        pool.run::<Result<GatherStage, QueryError>>(vec![Box::new(job)], guard)?
            .remove(0)
            .unwrap_or_else(lost)
    }

    /// Evaluates the gather stage at `times`, with the results of the shards.
    fn block(
        mut self,
        mut blocks: ShardBlocks,
        times: &[TimeMs],
        guard: &QueryGuard,
    ) -> Result<GatherStage, QueryError> {
        // Blocks come in rows only if the gather stage is nothing but the port: then values are
        // copied series by series, which for long ranges is much faster than step by step.
        if !blocks.is_empty() && blocks.iter().all(|(_, ports)| ports.iter().all(|port| port.rows.is_some()))
        {
            guard.paced(|eval_guard| self.rows_at_once(blocks, times, eval_guard))?;
            return Ok(self);
        }
        for port in blocks.iter_mut().flat_map(|(_, ports)| ports) {
            // One shard may have rows where another has steps, for example because of a histogram
            // in it. Operators need steps.
            guard.paced(|eval_guard| port.cut_steps(times.len(), eval_guard))?;
        }
        // Steps in order of time, because annotations and errors are those of the first step that
        // has any.
        for (i, t) in times.iter().copied().enumerate() {
            guard.check()?;
            guard.paced(|eval_guard| self.step(&blocks, i, t, eval_guard))?;
        }
        Ok(self)
    }

    /// Evaluates one step of a block.
    fn step(
        &mut self,
        blocks: &ShardBlocks,
        i: usize,
        t: TimeMs,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        for (number, port) in self.ports.clone().into_iter().enumerate() {
            self.feed(port, blocks.iter().map(|(shard, blocks)| (*shard, &blocks[number])), i, eval_guard)?;
        }
        // The ids are in topological order: inputs come first.
        for id in 0..self.stage.len() {
            self.stage.eval_paced(id, t, eval_guard);
        }
        // At each step, since operators clear their annotations when they are evaluated again.
        self.stage.annotate(&self.origins, &mut self.annotations, eval_guard)?;
        self.collect(t, eval_guard)
    }

    /// Takes the values of a leaf that is itself the answer, row by row.
    fn rows_at_once(
        &mut self,
        blocks: ShardBlocks,
        times: &[TimeMs],
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        let mut base = 0;
        for port in blocks.into_iter().flat_map(|(_, ports)| ports) {
            let Some(block) = port.rows else { continue };
            let rows = port.labels.len();
            for (at, labels) in port.labels.into_iter().enumerate() {
                // The first block of a query creates the rows. Later ones have the same series in
                // the same order.
                if self.rows.len() == base + at {
                    self.rows.push(Series::from_floats(labels, Vec::new()));
                    eval_guard.bytes(SERIES_BYTES)?;
                }
                eval_guard.samples(ROW_SAMPLES + times.len())?;
                let values = block.row(at).iter().filter(|v| !is_absent(**v)).count();
                let points = &mut self.rows[base + at].points;
                // Exact, because the answer counts as memory by its points, and doubling would hold
                // up to twice of that.
                points.reserve_exact(values);
                let there = times.iter().zip(block.row(at)).filter(|(_, v)| !is_absent(**v));
                points.extend(there.map(|(t, v)| (*t, *v)));
                self.held += values;
                eval_guard.bytes(values * POINT_BYTES)?;
            }
            base += rows;
        }
        Ok(())
    }

    /// Fills a port with step `i` of its blocks, shard after shard.
    fn feed<'a>(
        &mut self,
        port: StepId,
        blocks: impl Iterator<Item = (u16, &'a PortBlock)>,
        i: usize,
        eval_guard: &mut EvaluationGuard,
    ) -> Result<(), EvalError> {
        let out = self.stage.output_mut(port);
        let mut base = 0;
        for (shard, block) in blocks {
            let StepValues { floats: lanes, histograms, compensations } = &block.steps[i];
            // Rows of a port never change while a query runs, so labels are passed only once.
            if out.labels.len() < base + block.labels.len() {
                // The first lane is the value itself; the further ones are what partial aggregates
                // carry, as the count of an average.
                out.partial_columns.resize_with(lanes.len() - 1, Vec::new);
                eval_guard.new_rows(base + block.labels.len() - out.labels.len())?;
                for row in out.labels.len() - base..block.labels.len() {
                    let drops = block.drops.get(row).copied().unwrap_or(false);
                    out.add_row_with_name_flag(FlaggedLabels::new(block.labels[row].clone(), drops));
                    out.shards.push(shard);
                }
            }
            let rows = lanes[0].len();
            eval_guard.samples(rows * lanes.len())?;
            out.values[base..base + rows].copy_from_slice(&lanes[0]);
            for (to, from) in out.partial_columns.iter_mut().zip(&lanes[1..]) {
                to[base..base + rows].copy_from_slice(from);
            }
            for (from, to) in
                [(histograms, &mut out.histograms), (compensations, &mut out.histogram_compensations)]
            {
                // Most queries have no histograms. If the previous step had some, their cells must
                // be cleared.
                if !from.is_empty() || !to.is_empty() {
                    for row in 0..rows {
                        to.set(base + row, from.get(row).cloned());
                    }
                }
            }
            base += rows;
        }
        out.version += 1;
        // Between two steps of a query almost every value changes. Finding out which would cost
        // more than it saves.
        out.changed = ChangedRows::All;
        Ok(())
    }

    /// Adds the values of the root at one step to the rows.
    fn collect(&mut self, t: TimeMs, eval_guard: &mut EvaluationGuard) -> Result<(), EvalError> {
        let out = self.stage.output(self.root);
        if let Some(error) = &out.error {
            return Err(EvalError(error.clone()));
        }
        eval_guard.bytes((out.labels.len() - self.rows.len()) * SERIES_BYTES)?;
        // Operators only append rows, so a row of the answer keeps its index although the root may
        // get new ones at a later step.
        for row in self.rows.len()..out.labels.len() {
            let series = Series::from_floats(out.labels[row].clone(), Vec::new());
            self.rows.push(Series { drops: out.drops(row), ..series });
        }
        for (i, (value, row)) in out.values.iter().zip(&mut self.rows).enumerate() {
            eval_guard.row()?;
            match out.histograms.cell(i, *value) {
                SampleRef::Absent => continue,
                SampleRef::Float(v) => {
                    row.points.push((t, v));
                    eval_guard.bytes(POINT_BYTES)?;
                }
                SampleRef::Histogram(h) => {
                    row.histograms.push((t, h.clone()));
                    // Counted as if it were a copy: a histogram that is shared with the store would
                    // be kept alive by the answer.
                    eval_guard.bytes(histogram_bytes(h))?;
                }
            }
            self.held += 1;
        }
        Ok(())
    }
}
