//! A query at work: cuts it into pieces, gathers them step by step, and forms the answer.

use super::guard::Guard;
use super::pool::Pool;
use super::shard::{PortBlock, ShardRun, ports_of};
use super::subquery::SlidingWindow;
use super::{Answer, QueryError, QueryOptions, Series, Value, VectorSample};
use crate::functions::vectors::natural_order;
use crate::operators::stage::Stage;
use crate::operators::{Changed, same_labelset};
use crate::plan::physical::{Physical, Source, StepId, StepOp};
use crate::plan::{AggregateOp, Selector};
use std::sync::Arc;
use storage::model::value::{is_absent, is_stale};
use storage::model::{Labels, SHARDS, TimeMs};
use storage::store::{Store, StoreError};

/// The evaluation times of a query.
#[derive(Copy, Clone, Debug)]
pub struct Grid {
    /// First time, ms.
    pub start: TimeMs,
    /// No time is after this, ms.
    pub end: TimeMs,
    /// Distance, ms, at least 1.
    pub step: i64,
}

impl Grid {
    /// Number of times.
    pub fn len(&self) -> usize {
        if self.end < self.start { 0 } else { ((self.end - self.start) / self.step) as usize + 1 }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.end < self.start
    }

    /// Time number `i`.
    pub fn time(&self, i: usize) -> TimeMs {
        self.start + i as i64 * self.step
    }
}

/// A query ready to be executed.
pub struct Run {
    store: Arc<Store>,
    physical: Arc<Physical>,
    grid: Grid,
    options: QueryOptions,
    /// The rows of the plan's subqueries.
    subqueries: Vec<Vec<Series>>,
}

/// The gathered rows of the root.
pub struct Gathered {
    rows: Vec<(Labels, Vec<(TimeMs, f64)>)>,
    order: Option<StepOp>,
    scalar: bool,
    samples: usize,
}

impl Run {
    /// A query of `physical` over `grid`, with the rows of its subqueries.
    pub fn new(
        store: Arc<Store>,
        physical: Physical,
        grid: Grid,
        options: &QueryOptions,
        subqueries: Vec<Vec<Series>>,
    ) -> Run {
        Run { store, physical: Arc::new(physical), grid, options: options.clone(), subqueries }
    }

    /// Runs it.
    pub fn execute(self, pool: &Pool, guard: &Arc<Guard>) -> Result<Gathered, QueryError> {
        let mut shards = self.select(pool)?;
        let mut gather = Gather::new(&self.physical);
        self.add_subqueries(&mut gather.stage);
        let steps = self.grid.len();
        // Short queries stay in one block; long ones yield between blocks.
        for from in (0..steps).step_by(crate::limits::BLOCK_STEPS) {
            guard.check()?;
            let to = (from + crate::limits::BLOCK_STEPS).min(steps);
            let blocks = evaluate(&mut shards, pool, from, to, guard)?;
            gather.block(blocks, (from..to).map(|i| self.grid.time(i)))?;
            guard.hold(gather.held)?;
        }
        let root = &self.physical.gather[self.physical.root].op;
        let order = matches!(root, StepOp::Sort(_) | StepOp::SortByLabel(..) | StepOp::Group(..))
            .then(|| root.clone());
        Ok(Gathered { rows: gather.rows, order, scalar: self.physical.scalar, samples: guard.samples() })
    }

    /// Gives the steps that slide over subqueries their rows.
    fn add_subqueries(&self, stage: &mut Stage) {
        for (id, step) in self.physical.gather.iter().enumerate() {
            if let StepOp::Subquery(number, windowed) = step.op {
                let (asked, rows) = (self.physical.subqueries[number].clone(), &self.subqueries[number]);
                stage.set_operator(id, Box::new(SlidingWindow::new(asked, windowed, self.grid, rows)));
            }
        }
    }

    /// The shards that take part, with their series selected.
    fn select(&self, pool: &Pool) -> Result<Vec<(u16, ShardRun)>, QueryError> {
        if ports_of(&self.physical).is_empty() {
            return Ok(Vec::new());
        }
        let shards: Vec<u16> = (0..SHARDS).collect();
        let jobs = shards.chunks(SHARDS as usize / pool.threads().min(4)).map(|shards| {
            let (store, physical, grid, options) =
                (self.store.clone(), self.physical.clone(), self.grid, self.options.clone());
            let shards = shards.to_vec();
            let job = move || -> Result<Vec<(u16, ShardRun)>, QueryError> {
                let mut runs = Vec::new();
                for shard in shards {
                    runs.extend(
                        ShardRun::new(&store, shard, &physical, grid, &options)?.map(|run| (shard, run)),
                    );
                }
                Ok(runs)
            };
            Box::new(job) as Box<dyn FnOnce() -> Result<Vec<(u16, ShardRun)>, QueryError> + Send>
        });
        let mut selected = Vec::new();
        for part in pool.run::<Result<Vec<(u16, ShardRun)>, QueryError>>(jobs.collect()) {
            selected.extend(part.unwrap_or_else(lost)?);
        }
        Ok(selected)
    }
}

fn lost<T>() -> Result<T, QueryError> {
    Err(QueryError::Internal("a query thread panicked".to_owned()))
}

type ShardBlocks = Vec<(u16, Vec<PortBlock>)>;

/// Evaluates one block of steps on all shards, in parallel.
fn evaluate(
    shards: &mut Vec<(u16, ShardRun)>,
    pool: &Pool,
    from: usize,
    to: usize,
    guard: &Arc<Guard>,
) -> Result<ShardBlocks, QueryError> {
    let jobs = std::mem::take(shards).into_iter().map(|(shard, mut run)| {
        let guard = guard.clone();
        let job = move || {
            let blocks = run.block(from, to, &guard);
            (shard, run, blocks)
        };
        Box::new(job) as Box<dyn FnOnce() -> _ + Send>
    });
    let mut result = Vec::new();
    for part in pool.run(jobs.collect()) {
        let Some((shard, run, blocks)) = part else { return lost() };
        result.push((shard, blocks?));
        shards.push((shard, run));
    }
    Ok(result)
}

/// The gather stage of a query.
struct Gather {
    stage: Stage,
    /// Gather steps that are ports, in the order of the shards' port blocks.
    ports: Vec<StepId>,
    root: StepId,
    rows: Vec<(Labels, Vec<(TimeMs, f64)>)>,
    /// Points in `rows`.
    held: usize,
}

impl Gather {
    fn new(physical: &Physical) -> Gather {
        let ports =
            (0..physical.gather.len()).filter(|id| matches!(physical.gather[*id].op, StepOp::Port(_)));
        Gather {
            ports: ports.collect(),
            stage: Stage::of(&physical.gather),
            root: physical.root,
            rows: Vec::new(),
            held: 0,
        }
    }

    fn block(&mut self, blocks: ShardBlocks, times: impl Iterator<Item = TimeMs>) -> Result<(), QueryError> {
        for (i, t) in times.enumerate() {
            for (number, port) in self.ports.clone().into_iter().enumerate() {
                self.feed(port, blocks.iter().map(|(shard, blocks)| (*shard, &blocks[number])), i);
            }
            for id in 0..self.stage.len() {
                self.stage.eval(id, t);
            }
            self.collect(t)?;
        }
        Ok(())
    }

    /// Fills a port with step `i` of its blocks, shard after shard.
    fn feed<'a>(&mut self, port: StepId, blocks: impl Iterator<Item = (u16, &'a PortBlock)>, i: usize) {
        let out = self.stage.output_mut(port);
        let mut base = 0;
        for (shard, block) in blocks {
            let lanes = &block.steps[i];
            if out.labels.len() < base + block.labels.len() {
                out.extra.resize_with(lanes.len() - 1, Vec::new);
                for labels in &block.labels[out.labels.len() - base..] {
                    out.add_row(labels.clone());
                    out.shards.push(shard);
                }
            }
            let rows = lanes[0].len();
            out.values[base..base + rows].copy_from_slice(&lanes[0]);
            for (to, from) in out.extra.iter_mut().zip(&lanes[1..]) {
                to[base..base + rows].copy_from_slice(from);
            }
            base += rows;
        }
        out.version += 1;
        out.changed = Changed::All;
    }

    /// Keeps the root's values of one step.
    fn collect(&mut self, t: TimeMs) -> Result<(), QueryError> {
        let out = self.stage.output(self.root);
        if let Some(error) = &out.error {
            return Err(QueryError::Execution(error.clone()));
        }
        for row in self.rows.len()..out.labels.len() {
            self.rows.push((out.labels[row].clone(), Vec::new()));
        }
        for (value, row) in out.values.iter().zip(&mut self.rows) {
            if !is_absent(*value) {
                row.1.push((t, *value));
                self.held += 1;
            }
        }
        Ok(())
    }
}

impl Gathered {
    /// As the answer of an instant query.
    pub fn instant(self, t: TimeMs) -> Result<Answer, QueryError> {
        if self.scalar {
            let value = self.rows.first().and_then(|row| row.1.first()).map_or(f64::NAN, |point| point.1);
            return Ok(Answer::of(Value::Scalar(t, value), self.samples));
        }
        let (samples, order) = (self.samples, self.order.clone());
        let mut rows: Vec<VectorSample> = self
            .merged()?
            .into_iter()
            .map(|s| VectorSample { v: s.points[0].1, labels: s.labels, t })
            .collect();
        present(&mut rows, order.as_ref());
        Ok(Answer::of(Value::Vector(rows), samples))
    }

    /// As the answer of a range query.
    pub fn range(self) -> Result<Answer, QueryError> {
        let samples = self.samples;
        Ok(Answer::of(Value::Matrix(self.merged()?), samples))
    }

    /// Series in label order; rows with equal labels are one series if they never meet.
    pub fn merged(mut self) -> Result<Vec<Series>, QueryError> {
        self.rows.retain(|row| !row.1.is_empty());
        self.rows.sort_by(|a, b| a.0.cmp(&b.0));
        let mut series: Vec<Series> = Vec::with_capacity(self.rows.len());
        for (labels, points) in self.rows {
            match series.last_mut() {
                Some(last) if last.labels == labels => {
                    last.points.extend(points);
                    last.points.sort_by_key(|p| p.0);
                    if last.points.windows(2).any(|p| p[0].0 == p[1].0) {
                        return Err(QueryError::Execution(same_labelset().0));
                    }
                }
                _ => series.push(Series { labels, points }),
            }
        }
        Ok(series)
    }
}

/// Puts an instant vector into the order that its outermost operator promises.
fn present(rows: &mut [VectorSample], order: Option<&StepOp>) {
    let by_value = |rows: &mut [VectorSample], descending: bool| {
        rows.sort_by(|a, b| match (a.v.is_nan(), b.v.is_nan()) {
            (false, false) if descending => b.v.total_cmp(&a.v),
            (false, false) => a.v.total_cmp(&b.v),
            (x, y) => x.cmp(&y),
        });
    };
    match order {
        Some(StepOp::Sort(descending)) => by_value(rows, *descending),
        Some(StepOp::SortByLabel(names, descending)) => {
            let order = |a: &Labels, b: &Labels| {
                let value = |labels: &Labels, name: &str| labels.get(name).unwrap_or("").to_owned();
                let by_name = |name: &String| natural_order(&value(a, name), &value(b, name));
                names.iter().map(by_name).find(|o| o.is_ne()).unwrap_or_else(|| a.cmp(b))
            };
            rows.sort_by(
                |a, b| {
                    if *descending { order(&b.labels, &a.labels) } else { order(&a.labels, &b.labels) }
                },
            );
        }
        Some(StepOp::Group(op @ (AggregateOp::Topk | AggregateOp::Bottomk), grouping, _)) => {
            by_value(rows, *op == AggregateOp::Topk);
            if grouping.without || !grouping.labels.is_empty() {
                rows.sort_by_cached_key(|row| crate::operators::grouping::group_key(grouping, &row.labels));
            }
        }
        _ => {}
    }
}

/// The answer of an instant query that is a bare range selector.
pub fn matrix(
    store: &Store,
    selector: &Selector,
    range: i64,
    t: TimeMs,
    options: &QueryOptions,
) -> Result<Answer, QueryError> {
    let guard = Guard::new(options);
    let source = Source { matchers: selector.matchers.clone(), offset: selector.offset, at: selector.at };
    let end = source.time(t, t, t);
    let (mut series, internal) = (Vec::new(), |e: StoreError| QueryError::Internal(e.to_string()));
    for shard in 0..SHARDS {
        let selection = store.select(shard, &source.matchers, end - range + 1, end).map_err(internal)?;
        for (i, labels) in selection.labels.iter().enumerate() {
            guard.check()?;
            let (mut ts, mut vs) = (Vec::new(), Vec::new());
            selection.read(i, end - range + 1, end, &mut ts, &mut vs).map_err(internal)?;
            guard.read(ts.len())?;
            let points: Vec<_> = ts.into_iter().zip(vs).filter(|(_, v)| !is_stale(*v)).collect();
            if !points.is_empty() {
                series.push(Series { labels: labels.clone(), points });
            }
        }
    }
    series.sort_by(|a, b| a.labels.cmp(&b.labels));
    Ok(Answer::of(Value::Matrix(series), guard.samples()))
}
