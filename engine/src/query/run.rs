//! A query at work: cuts it into pieces, gathers them step by step, and forms the answer.

use super::given::Given;
use super::guard::{Guard, SampleCounts};
use super::pool::Pool;
use super::shard::{Lanes, PortBlock, ShardRun, ports_of};
use super::subquery::SlidingWindow;
use super::{Answer, QueryError, QueryOptions, Series, Value, VectorSample};
use crate::functions::vectors::natural_order;
use crate::limits::{BLOCK_STEPS, BLOCK_VALUES, SMALL_QUERY};
use crate::operators::info::Info;
use crate::operators::side::Cell;
use crate::operators::stage::Stage;
use crate::operators::{Changed, same_labelset};
use crate::plan::notes::{Annotations, Origin};
use crate::plan::physical::{Physical, StepId, StepOp};
use crate::plan::{AggregateOp, Dialect};
use std::sync::Arc;
use storage::model::value::{HISTOGRAM, is_absent};
use storage::model::{Labels, SHARDS, TimeMs};
use storage::store::Store;

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
    /// The scalars that depend on series.
    given: Arc<Vec<Given>>,
}

/// The gathered rows of the root.
pub struct Gathered {
    rows: Vec<Series>,
    order: Option<StepOp>,
    scalar: bool,
    samples: SampleCounts,
    notes: Annotations,
}

impl Run {
    /// A query of `physical` over `grid`, with the rows of its subqueries and the scalars it is given.
    pub(super) fn new(
        store: Arc<Store>,
        physical: Physical,
        grid: Grid,
        options: &QueryOptions,
        (subqueries, given): (Vec<Vec<Series>>, Vec<Given>),
    ) -> Run {
        let (physical, given) = (Arc::new(physical), Arc::new(given));
        Run { store, physical, grid, options: options.clone(), subqueries, given }
    }

    /// Runs it.
    pub fn execute(
        self,
        pool: &Pool,
        guard: &Arc<Guard>,
        mut notes: Annotations,
    ) -> Result<Gathered, QueryError> {
        let mut shards = self.select(pool, guard)?;
        let mut gather = Gather::new(&self.physical, self.options.dialect);
        self.add_subqueries(&mut gather.stage);
        let steps = self.grid.len();
        if steps > 1 {
            gather.see_all_steps(&self.physical);
        }
        let rows: usize = shards.iter().map(|(_, run)| run.rows()).sum();
        let size = (BLOCK_VALUES / rows.max(1)).max(BLOCK_STEPS);
        for from in (0..steps).step_by(size) {
            guard.check()?;
            let to = (from + size).min(steps);
            let pieces = if rows * (to - from) < SMALL_QUERY { pool.threads() } else { shards.len() };
            let blocks = evaluate(&mut shards, pool, pieces, (from, to), guard)?;
            let times: Vec<TimeMs> = (from..to).map(|i| self.grid.time(i)).collect();
            gather.block(blocks, &times, guard)?;
            guard.hold(gather.held)?;
        }
        let root = self.physical.outermost();
        let order = matches!(root, StepOp::Sort(_) | StepOp::SortByLabel(..) | StepOp::Group(..))
            .then(|| root.clone());
        shards.into_iter().for_each(|(_, run)| notes.extend(run.into_notes()));
        notes.extend(gather.notes);
        let (scalar, samples) = (self.physical.scalar, guard.samples());
        Ok(Gathered { rows: gather.rows, order, scalar, samples, notes })
    }

    /// Gives the steps that slide over subqueries their rows.
    fn add_subqueries(&self, stage: &mut Stage) {
        for (id, step) in self.physical.gather.iter().enumerate() {
            if let StepOp::Subquery(number, windowed) = step.op {
                let (asked, rows) = (self.physical.subqueries[number].clone(), &self.subqueries[number]);
                let window = SlidingWindow::new((asked, windowed), self.grid, rows, self.options.dialect);
                stage.set_operator(id, Box::new(window));
            }
        }
    }

    /// The shards that take part, with their series selected.
    fn select(&self, pool: &Pool, guard: &Arc<Guard>) -> Result<Vec<(u16, ShardRun)>, QueryError> {
        if ports_of(&self.physical).is_empty() {
            return Ok(Vec::new());
        }
        let shards: Vec<u16> = (0..SHARDS).collect();
        let jobs = shards.chunks(SHARDS as usize / pool.threads().min(4)).map(|shards| {
            let (store, physical, grid, options) =
                (self.store.clone(), self.physical.clone(), self.grid, self.options.clone());
            let (shards, given, guard) = (shards.to_vec(), self.given.clone(), guard.clone());
            let job = move || -> Result<Vec<(u16, ShardRun)>, QueryError> {
                let mut runs = Vec::new();
                for shard in shards {
                    guard.check()?;
                    let run = ShardRun::new(&store, shard, &physical, &given, grid, &options)?;
                    runs.extend(run.map(|run| (shard, run)));
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

type Piece = Vec<(u16, ShardRun)>;
type ShardBlocks = Vec<(u16, Vec<PortBlock>)>;

/// Evaluates one block of steps on all shards, in parallel.
fn evaluate(
    shards: &mut Vec<(u16, ShardRun)>,
    pool: &Pool,
    pieces: usize,
    (from, to): (usize, usize),
    guard: &Arc<Guard>,
) -> Result<ShardBlocks, QueryError> {
    let per_piece = shards.len().div_ceil(pieces.max(1)).max(1);
    let mut rest = std::mem::take(shards).into_iter();
    let pieces = std::iter::from_fn(|| {
        Some(rest.by_ref().take(per_piece).collect()).filter(|p: &Piece| !p.is_empty())
    });
    let jobs = pieces.map(|mut piece| {
        let guard = guard.clone();
        let job = move || {
            let blocks = piece.iter_mut().map(|(shard, run)| Ok((*shard, run.block(from, to, &guard)?)));
            let blocks = blocks.collect::<Result<ShardBlocks, QueryError>>();
            (piece, blocks)
        };
        Box::new(job) as Box<dyn FnOnce() -> (Piece, Result<ShardBlocks, QueryError>) + Send>
    });
    let mut result = Vec::new();
    for part in pool.run(jobs.collect()) {
        let Some((piece, blocks)) = part else { return lost() };
        result.extend(blocks?);
        shards.extend(piece);
    }
    Ok(result)
}

/// The gather stage of a query.
struct Gather {
    stage: Stage,
    origins: Vec<Origin>,
    notes: Annotations,
    /// Gather steps that are ports, in the order of the shards' port blocks.
    ports: Vec<StepId>,
    root: StepId,
    rows: Vec<Series>,
    /// Points in `rows`.
    held: usize,
}

impl Gather {
    fn new(physical: &Physical, dialect: Dialect) -> Gather {
        let ports =
            (0..physical.gather.len()).filter(|id| matches!(physical.gather[*id].op, StepOp::Port(_)));
        Gather {
            ports: ports.collect(),
            stage: Stage::of(&physical.gather, dialect),
            origins: physical.gather_origins.clone(),
            notes: Annotations::default(),
            root: physical.root,
            rows: Vec::new(),
            held: 0,
        }
    }

    /// Gives operators to which other steps of the query matter those that know.
    fn see_all_steps(&mut self, physical: &Physical) {
        for (id, step) in physical.gather.iter().enumerate() {
            if let StepOp::Info(wanted) = &step.op {
                self.stage.set_operator(id, Box::new(Info::over_range(wanted.clone())));
            }
        }
    }

    fn block(&mut self, mut blocks: ShardBlocks, times: &[TimeMs], guard: &Guard) -> Result<(), QueryError> {
        if !blocks.is_empty() && blocks.iter().all(|(_, ports)| ports.iter().all(|port| port.rows.is_some()))
        {
            self.rows_at_once(blocks, times);
            return Ok(());
        }
        blocks.iter_mut().flat_map(|(_, ports)| ports).for_each(|port| port.cut_steps(times.len()));
        for (i, t) in times.iter().copied().enumerate() {
            guard.check()?;
            for (number, port) in self.ports.clone().into_iter().enumerate() {
                self.feed(port, blocks.iter().map(|(shard, blocks)| (*shard, &blocks[number])), i);
            }
            for id in 0..self.stage.len() {
                self.stage.eval(id, t);
            }
            self.stage.annotate(&self.origins, &mut self.notes);
            self.collect(t)?;
        }
        Ok(())
    }

    /// Keeps the values of leaves that are the answer.
    fn rows_at_once(&mut self, blocks: ShardBlocks, times: &[TimeMs]) {
        let mut base = 0;
        for port in blocks.into_iter().flat_map(|(_, ports)| ports) {
            let Some(block) = port.rows else { continue };
            for (at, labels) in port.labels.iter().enumerate() {
                if self.rows.len() == base + at {
                    let labels = labels.clone();
                    self.rows.push(Series { labels, points: Vec::new(), histograms: Vec::new() });
                }
                let values = block.row(at).iter().filter(|v| !is_absent(**v)).count();
                let points = &mut self.rows[base + at].points;
                points.reserve_exact(values);
                let there = times.iter().zip(block.row(at)).filter(|(_, v)| !is_absent(**v));
                points.extend(there.map(|(t, v)| (*t, *v)));
                self.held += values;
            }
            base += port.labels.len();
        }
    }

    /// Fills a port with step `i` of its blocks, shard after shard.
    fn feed<'a>(&mut self, port: StepId, blocks: impl Iterator<Item = (u16, &'a PortBlock)>, i: usize) {
        let out = self.stage.output_mut(port);
        let mut base = 0;
        for (shard, block) in blocks {
            let Lanes { floats: lanes, histograms, compensations } = &block.steps[i];
            if out.labels.len() < base + block.labels.len() {
                out.extra.resize_with(lanes.len() - 1, Vec::new);
                for row in out.labels.len() - base..block.labels.len() {
                    let drops = block.drops.get(row).copied().unwrap_or(false);
                    out.add_named((block.labels[row].clone(), drops));
                    out.shards.push(shard);
                }
            }
            let rows = lanes[0].len();
            out.values[base..base + rows].copy_from_slice(&lanes[0]);
            for (to, from) in out.extra.iter_mut().zip(&lanes[1..]) {
                to[base..base + rows].copy_from_slice(from);
            }
            for (from, to) in [(histograms, &mut out.histograms), (compensations, &mut out.compensations)] {
                if !from.is_empty() || !to.is_empty() {
                    (0..rows).for_each(|row| to.set(base + row, from.get(row).cloned()));
                }
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
            let labels = out.labels[row].clone();
            self.rows.push(Series { labels, points: Vec::new(), histograms: Vec::new() });
        }
        for (i, (value, row)) in out.values.iter().zip(&mut self.rows).enumerate() {
            match out.histograms.cell(i, *value) {
                Cell::Absent => continue,
                Cell::Float(v) => row.points.push((t, v)),
                Cell::Histogram(h) => row.histograms.push((t, h.clone())),
            }
            self.held += 1;
        }
        Ok(())
    }
}

impl Gathered {
    /// As the answer of an instant query.
    pub fn instant(mut self, t: TimeMs) -> Result<Answer, QueryError> {
        if self.scalar {
            let first = self.rows.first().and_then(|row| row.points.first());
            let value = first.map_or(f64::NAN, |point| point.1);
            return Ok(Answer::of(Value::Scalar(t, value), self.notes, self.samples));
        }
        let (samples, order, notes) = (self.samples.clone(), self.order.clone(), self.take_notes());
        let mut rows: Vec<VectorSample> = self.merged()?.into_iter().map(|s| only(s, t)).collect();
        present(&mut rows, order.as_ref());
        Ok(Answer::of(Value::Vector(rows), notes, samples))
    }

    /// As the answer of a range query.
    pub fn range(mut self) -> Result<Answer, QueryError> {
        let (samples, notes) = (self.samples.clone(), self.take_notes());
        Ok(Answer::of(Value::Matrix(self.merged()?), notes, samples))
    }

    /// As a scalar for each time of `grid`.
    pub(super) fn scalars(self, grid: Grid) -> Given {
        let mut values = vec![f64::NAN; grid.len()];
        for (t, v) in self.rows.first().into_iter().flat_map(|row| &row.points) {
            let at = usize::try_from((t - grid.start) / grid.step).ok();
            if let Some(value) = at.and_then(|at| values.get_mut(at)) {
                *value = *v;
            }
        }
        values.into()
    }

    /// What it should be read with.
    pub fn take_notes(&mut self) -> Annotations {
        std::mem::take(&mut self.notes)
    }

    /// Series in label order; rows with equal labels are one series if they never meet.
    pub fn merged(mut self) -> Result<Vec<Series>, QueryError> {
        self.rows.retain(|row| !row.points.is_empty() || !row.histograms.is_empty());
        self.rows.sort_by(|a, b| a.labels.cmp(&b.labels));
        let mut series: Vec<Series> = Vec::with_capacity(self.rows.len());
        for row in self.rows {
            match series.last_mut() {
                Some(last) if last.labels == row.labels => join(last, row)?,
                _ => series.push(row),
            }
        }
        Ok(series)
    }
}

/// The only sample of a row of an instant query.
fn only(row: Series, t: TimeMs) -> VectorSample {
    let h = row.histograms.into_iter().next().map(|(_, h)| h);
    let v = row.points.first().map_or(HISTOGRAM, |point| point.1);
    VectorSample { labels: row.labels, t, v, h }
}

/// Adds the samples of a row with the same labels; they may never meet.
fn join(series: &mut Series, row: Series) -> Result<(), QueryError> {
    series.points.extend(row.points);
    series.points.sort_by_key(|p| p.0);
    series.histograms.extend(row.histograms);
    series.histograms.sort_by_key(|h| h.0);
    let mut times: Vec<TimeMs> = series.points.iter().map(|p| p.0).collect();
    times.extend(series.histograms.iter().map(|h| h.0));
    times.sort_unstable();
    match times.windows(2).any(|pair| pair[0] == pair[1]) {
        true => Err(QueryError::Execution(same_labelset().0)),
        false => Ok(()),
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
