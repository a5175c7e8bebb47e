//! One piece of a query: the local stage of one shard over one block of steps.
//!
//! A leaf decodes each of its series once per block, sequentially, and walks the steps with two cursors.
//! Its values form a value block, `[step][row]`, out of which the stage is fed column by column.

use super::guard::Guard;
use super::run::Grid;
use super::{QueryError, QueryOptions};
use crate::functions::{Kernel, Moves, Window, WindowKernel};
use crate::operators::stage::Stage;
use crate::operators::{Changed, Output, Twins};
use crate::plan::physical::{Leaf, Physical, Source, StepId, StepOp};
use storage::model::value::{ABSENT, is_absent, is_stale};
use storage::model::{Labels, TimeMs};
use storage::store::{Selection, Store};

/// Rows and values of one port over a block of steps.
#[derive(Default)]
pub struct PortBlock {
    /// Labels per row, complete from the first block on.
    pub labels: Vec<Labels>,
    /// `[step][lane][row]`.
    pub steps: Vec<Vec<Vec<f64>>>,
}

struct LeafRun {
    id: StepId,
    source: Source,
    leaf: Leaf,
    params: Vec<StepId>,
    selection: Selection,
    /// `[step][row]` of the current block.
    block: Vec<Vec<f64>>,
    twins: Twins,
}

/// The local stage of one shard at work.
pub struct ShardRun {
    stage: Stage,
    leaves: Vec<LeafRun>,
    order: Vec<StepId>,
    ports: Vec<StepId>,
    lookback: i64,
    grid: Grid,
    scratch: Scratch,
}

#[derive(Default)]
struct Scratch {
    ts: Vec<TimeMs>,
    vs: Vec<f64>,
    resets: Vec<u32>,
}

impl ShardRun {
    /// Selects the series of `shard`; `None` if there are none: the shard has no part in the answer.
    pub fn new(
        store: &Store,
        shard: u16,
        physical: &Physical,
        grid: Grid,
        options: &QueryOptions,
    ) -> Result<Option<ShardRun>, QueryError> {
        let mut leaves = Vec::new();
        for (id, step) in physical.local.iter().enumerate() {
            if let StepOp::Leaf(source, leaf) = &step.op {
                leaves.push(LeafRun::new(
                    store,
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
        if leaves.iter().all(|leaf| leaf.selection.labels.is_empty()) {
            return Ok(None);
        }
        let mut stage = Stage::of(&physical.local);
        for leaf in &leaves {
            leaf.add_rows(stage.output_mut(leaf.id));
        }
        let order = (0..physical.local.len()).collect();
        let ports = ports_of(physical);
        Ok(Some(ShardRun {
            stage,
            leaves,
            order,
            ports,
            lookback: options.lookback,
            grid,
            scratch: Scratch::default(),
        }))
    }

    /// Evaluates steps `from..to` of the grid.
    pub fn block(&mut self, from: usize, to: usize, guard: &Guard) -> Result<Vec<PortBlock>, QueryError> {
        let times: Vec<TimeMs> = (from..to).map(|i| self.grid.time(i)).collect();
        for leaf in &mut self.leaves {
            leaf.fill(&times, self.grid, self.lookback, &mut self.stage, &mut self.scratch, guard)?;
        }
        let mut blocks: Vec<PortBlock> = self.ports.iter().map(|_| PortBlock::default()).collect();
        for (i, t) in times.iter().enumerate() {
            guard.check()?;
            self.step(i, *t)?;
            for (block, port) in blocks.iter_mut().zip(&self.ports) {
                block.push(self.stage.output(*port))?;
            }
        }
        Ok(blocks)
    }

    fn step(&mut self, i: usize, t: TimeMs) -> Result<(), QueryError> {
        for leaf in &mut self.leaves {
            let out = self.stage.output_mut(leaf.id);
            std::mem::swap(&mut out.values, &mut leaf.block[i]);
            out.version += 1;
            out.changed = Changed::All;
            if !out.sorted {
                leaf.twins.learn(out);
                leaf.twins.check(out).map_err(|e| QueryError::Execution(e.0))?;
            }
        }
        for id in &self.order {
            self.stage.eval(*id, t);
        }
        Ok(())
    }
}

/// The local steps that the gather stage reads, in order of their first mention.
pub fn ports_of(physical: &Physical) -> Vec<StepId> {
    physical
        .gather
        .iter()
        .filter_map(|step| if let StepOp::Port(id) = step.op { Some(id) } else { None })
        .collect()
}

/// The labels that a leaf gives to a series.
pub fn leaf_labels(leaf: &Leaf, labels: &Labels) -> Labels {
    match leaf {
        Leaf::Value => labels.clone(),
        Leaf::Window(function, _) if function.0.keeps_name => labels.clone(),
        _ => labels.of_computed(),
    }
}

impl PortBlock {
    fn push(&mut self, out: &Output) -> Result<(), QueryError> {
        if let Some(error) = &out.error {
            return Err(QueryError::Execution(error.clone()));
        }
        if self.labels.len() < out.labels.len() {
            self.labels = out.labels.clone();
        }
        let mut lanes = Vec::with_capacity(1 + out.extra.len());
        lanes.push(out.values.clone());
        lanes.extend(out.extra.iter().cloned());
        self.steps.push(lanes);
        Ok(())
    }
}

impl LeafRun {
    #[allow(clippy::too_many_arguments, reason = "a constructor of plain data")]
    fn new(
        store: &Store,
        shard: u16,
        id: StepId,
        source: &Source,
        leaf: &Leaf,
        params: Vec<StepId>,
        grid: Grid,
        options: &QueryOptions,
    ) -> Result<LeafRun, QueryError> {
        let reach = leaf.reach(options.lookback);
        let from = source.time(grid.start, grid.start, grid.end) - reach;
        let to = source.time(grid.end, grid.start, grid.end);
        let selection = store
            .select(shard, &source.matchers, from + 1, to)
            .map_err(|e| QueryError::Internal(e.to_string()))?;
        Ok(LeafRun {
            id,
            source: source.clone(),
            leaf: leaf.clone(),
            params,
            selection,
            block: Vec::new(),
            twins: Twins::default(),
        })
    }

    fn add_rows(&self, out: &mut Output) {
        for labels in &self.selection.labels {
            out.add_row(leaf_labels(&self.leaf, labels));
        }
    }

    /// Computes the value block of the leaf.
    fn fill(
        &mut self,
        times: &[TimeMs],
        grid: Grid,
        lookback: i64,
        stage: &mut Stage,
        scratch: &mut Scratch,
        guard: &Guard,
    ) -> Result<(), QueryError> {
        let rows = self.selection.labels.len();
        self.block.resize_with(times.len(), Vec::new);
        self.block.truncate(times.len());
        self.block.iter_mut().for_each(|column| {
            column.clear();
            column.resize(rows, ABSENT);
        });
        let params = self.params(times, stage);
        self.check(&params, rows)?;
        let ends: Vec<TimeMs> = times.iter().map(|t| self.source.time(*t, grid.start, grid.end)).collect();
        let (Some(first), Some(last)) = (ends.iter().min(), ends.iter().max()) else { return Ok(()) };
        for row in 0..rows {
            if row % 64 == 0 {
                guard.check()?;
            }
            scratch.ts.clear();
            scratch.vs.clear();
            let from = first - self.leaf.reach(lookback) + 1;
            self.selection
                .read(row, from, *last, &mut scratch.ts, &mut scratch.vs)
                .map_err(|e| QueryError::Internal(e.to_string()))?;
            guard.read(scratch.ts.len())?;
            self.series(row, times, &ends, &params, lookback, scratch);
        }
        Ok(())
    }

    /// Scalar parameters per step.
    fn params(&self, times: &[TimeMs], stage: &mut Stage) -> Vec<Vec<f64>> {
        if self.params.is_empty() {
            return Vec::new();
        }
        let mut at = |t: TimeMs| {
            // Parameters are pure scalars: evaluating every earlier step in order reaches them all.
            (0..self.id).for_each(|id| {
                stage.eval(id, t);
            });
            self.params.iter().map(|p| stage.output(*p).values.first().copied().unwrap_or(f64::NAN)).collect()
        };
        times.iter().map(|t| at(*t)).collect()
    }

    /// Asks the function whether it takes these parameters; without series nobody asks.
    fn check(&self, params: &[Vec<f64>], rows: usize) -> Result<(), QueryError> {
        let Leaf::Window(function, _) = &self.leaf else { return Ok(()) };
        let Some(check) = function.0.check.filter(|_| rows > 0) else { return Ok(()) };
        params.iter().try_for_each(|args| check(args)).map_err(QueryError::Execution)
    }

    fn series(
        &mut self,
        row: usize,
        times: &[TimeMs],
        ends: &[TimeMs],
        params: &[Vec<f64>],
        lookback: i64,
        scratch: &mut Scratch,
    ) {
        match &self.leaf {
            Leaf::Value => latest(scratch, ends, lookback, |i, _, v| self.block[i][row] = v),
            Leaf::Timestamp => {
                latest(scratch, ends, lookback, |i, t, _| self.block[i][row] = t as f64 / 1000.0)
            }
            Leaf::Present(range) => {
                drop_stale(scratch);
                windows(scratch, ends, *range, |i, _, _, _| self.block[i][row] = 1.0);
            }
            Leaf::Window(function, range) => {
                let Kernel::Window(kernel) = function.0.kernel else { return };
                drop_stale(scratch);
                count_resets(kernel, scratch);
                let Scratch { ts, vs, resets } = &*scratch;
                windows(scratch, ends, *range, |i, lo, hi, start| {
                    let window = Window {
                        ts: &ts[lo..hi],
                        vs: &vs[lo..hi],
                        start,
                        end: ends[i],
                        t: times[i],
                        args: params.get(i).map_or(&[], Vec::as_slice),
                        monotone: !resets.is_empty() && resets[lo] == resets[hi - 1],
                    };
                    self.block[i][row] = (kernel.eval)(&window);
                });
            }
        }
    }
}

fn drop_stale(scratch: &mut Scratch) {
    if scratch.vs.iter().any(|v| is_stale(*v)) {
        let mut values = scratch.vs.iter();
        scratch.ts.retain(|_| values.next().is_some_and(|v| !is_stale(*v)));
        scratch.vs.retain(|v| !is_stale(*v));
    }
}

/// For counters: how often the value fell, up to each sample. Equal counts at both ends: no reset between.
fn count_resets(kernel: WindowKernel, scratch: &mut Scratch) {
    scratch.resets.clear();
    if kernel.moves != Moves::Extrapolated {
        return;
    }
    let mut count = 0;
    scratch.resets.extend(scratch.vs.iter().enumerate().map(|(i, v)| {
        // Not "<": a NaN on either side must make the kernel look.
        let grows = i == 0 || *v >= scratch.vs[i - 1];
        count += u32::from(!grows);
        count
    }));
}

/// For each end: the newest sample within the lookback, unless it is a stale marker.
fn latest(scratch: &Scratch, ends: &[TimeMs], lookback: i64, mut put: impl FnMut(usize, TimeMs, f64)) {
    let mut hi = 0;
    for (i, end) in ends.iter().enumerate() {
        while hi < scratch.ts.len() && scratch.ts[hi] <= *end {
            hi += 1;
        }
        if hi > 0 && scratch.ts[hi - 1] > end - lookback && !is_stale(scratch.vs[hi - 1]) {
            put(i, scratch.ts[hi - 1], scratch.vs[hi - 1]);
        }
    }
}

/// For each end: the samples with `end - range < t ≤ end`, if there are any, as `lo..hi`.
fn windows(scratch: &Scratch, ends: &[TimeMs], range: i64, mut put: impl FnMut(usize, usize, usize, TimeMs)) {
    let (mut lo, mut hi) = (0, 0);
    for (i, end) in ends.iter().enumerate() {
        let start = end - range;
        while hi < scratch.ts.len() && scratch.ts[hi] <= *end {
            hi += 1;
        }
        while lo < hi && scratch.ts[lo] <= start {
            lo += 1;
        }
        if lo < hi {
            debug_assert!(!is_absent(scratch.vs[lo]));
            put(i, lo, hi, start);
        }
    }
}
