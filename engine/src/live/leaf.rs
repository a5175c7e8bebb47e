//! A leaf at work in the live runtime: from a ring to rows, block by block.
//!
//! A block is looked at again only when samples came or when its answer falls due: a sample leaves the
//! window, a value grows stale, an offset sample comes into view, or `rate` begins to move with time.

use super::ring::{Block, Column, Ring};
use crate::functions::rate::extrapolated_valid_until;
use crate::functions::{Kernel, Moves, Window, WindowKernel};
use crate::operators::{Changed, EvalError, Output, Twins};
use crate::plan::physical::{Leaf, Source};
use crate::query::shard::leaf_labels;
use storage::model::TimeMs;
use storage::model::value::{ABSENT, is_absent, is_sample, is_stale};

/// State of one leaf in one shard.
pub struct LeafState {
    /// What it reads.
    pub source: Source,
    /// What it makes of it.
    pub leaf: Leaf,
    /// Index of its ring in the shard.
    pub ring: usize,
    lookback: i64,
    blocks: Vec<Seen>,
    params: Vec<f64>,
    twins: Twins,
    ts: Vec<TimeMs>,
    vs: Vec<f64>,
}

/// What was seen of a block, and until when the answer holds.
#[derive(Copy, Clone)]
struct Seen {
    version: u64,
    valid_until: TimeMs,
}

/// The part of a block that a leaf looks at.
#[derive(Copy, Clone)]
struct View {
    lo: usize,
    hi: usize,
    start: TimeMs,
    end: TimeMs,
    t: TimeMs,
}

impl LeafState {
    /// A leaf over ring number `ring`.
    pub fn new(source: Source, leaf: Leaf, ring: usize, lookback: i64) -> LeafState {
        LeafState {
            source,
            leaf,
            ring,
            lookback,
            blocks: Vec::new(),
            params: Vec::new(),
            twins: Twins::default(),
            ts: Vec::new(),
            vs: Vec::new(),
        }
    }

    /// Forgets what was seen: the ring was filled anew.
    pub fn reset(&mut self) {
        self.blocks.clear();
    }

    /// Brings `out` up to `t`. Returns how many rows were looked at.
    pub fn eval(&mut self, ring: &Ring, t: TimeMs, params: Vec<f64>, out: &mut Output) -> usize {
        let mut touched = Vec::new();
        for row in out.labels.len()..ring.labels.len() {
            out.add_row(leaf_labels(&self.leaf, &ring.labels[row]));
            out.sorted = false;
        }
        if params != self.params {
            self.params = params;
            self.blocks.clear();
        }
        self.blocks.resize(ring.blocks.len(), Seen { version: 0, valid_until: TimeMs::MIN });
        let mut rows = 0;
        for (number, block) in ring.blocks.iter().enumerate() {
            let seen = self.blocks[number];
            if seen.version == block.version && t <= seen.valid_until {
                continue;
            }
            rows += block.columns.len();
            let valid_until = self.block(block, t, out, &mut touched);
            self.blocks[number] = Seen { version: block.version, valid_until };
        }
        self.settle(out, touched);
        rows
    }

    /// Notes what changed, and checks that dropping names left no two rows with the same labels.
    fn settle(&mut self, out: &mut Output, touched: Vec<u32>) {
        let before = out.error.take();
        if self.leaf != Leaf::Value {
            self.twins.learn(out);
            out.error = self.twins.check(out).err().map(|EvalError(e)| e);
        }
        if before != out.error {
            out.changed = Changed::All;
            out.version += 1;
        } else if !touched.is_empty() {
            out.changed = Changed::Rows(touched);
            out.version += 1;
        }
    }

    /// Evaluates all columns of a block; returns until when the result holds.
    fn block(&mut self, block: &Block, t: TimeMs, out: &mut Output, touched: &mut Vec<u32>) -> TimeMs {
        let end = self.source.time(t, t, t);
        let start = end - self.leaf.reach(self.lookback);
        let hi = block.clock.partition_point(|c| *c <= end);
        let lo = block.clock[..hi].partition_point(|c| *c <= start);
        let view = View { lo, hi, start, end, t };
        // A sample ahead of `end` (offset, or one that came early) comes into view later.
        let mut until = block.clock.get(hi).map_or(TimeMs::MAX, |next| t + (next - end) - 1);
        if lo < hi {
            until = until.min(t + (block.clock[lo] - start) - 1);
        }
        for column in &block.columns {
            let (value, holds) =
                if lo < hi { self.column(block, column, view) } else { (ABSENT, TimeMs::MAX) };
            until = until.min(holds);
            out.set(column.row as usize, value, touched);
        }
        until
    }

    /// The value of one column, and until when it holds as far as the column itself knows.
    fn column(&mut self, block: &Block, column: &Column, view: View) -> (f64, TimeMs) {
        match &self.leaf {
            Leaf::Value => latest(block, column, view, |_, v| v),
            Leaf::Timestamp => latest(block, column, view, |t, _| t as f64 / 1000.0),
            Leaf::Present(_) => {
                let any = column.values[view.lo..view.hi].iter().any(|v| is_sample(*v));
                (if any { 1.0 } else { ABSENT }, TimeMs::MAX)
            }
            Leaf::Window(function, _) => match function.0.kernel {
                Kernel::Window(kernel) => self.window(kernel, block, column, view),
                _ => (ABSENT, TimeMs::MAX),
            },
        }
    }

    fn window(&mut self, kernel: WindowKernel, block: &Block, column: &Column, view: View) -> (f64, TimeMs) {
        let View { lo, hi, start, end, t } = view;
        let (mut ts, mut vs) = (&block.clock[lo..hi], &column.values[lo..hi]);
        if column.last_gap > start {
            self.ts.clear();
            self.vs.clear();
            for (t, v) in ts.iter().zip(vs).filter(|(_, v)| is_sample(**v)) {
                self.ts.push(*t);
                self.vs.push(*v);
            }
            (ts, vs) = (&self.ts, &self.vs);
        }
        let Some(first) = ts.first() else { return (ABSENT, TimeMs::MAX) };
        let monotone = column.last_reset <= *first;
        let window = Window { ts, vs, start, end, t, args: &self.params, monotone };
        let value = (kernel.eval)(&window);
        let holds = match kernel.moves {
            Moves::OnExpiry => TimeMs::MAX,
            Moves::Extrapolated if is_absent(value) => TimeMs::MAX,
            Moves::Extrapolated => extrapolated_valid_until(&window),
            Moves::Always => t,
        };
        (value, holds)
    }
}

/// The newest sample of a column in view, unless it is a stale marker.
fn latest(block: &Block, column: &Column, view: View, value: impl Fn(TimeMs, f64) -> f64) -> (f64, TimeMs) {
    let newest = (view.lo..view.hi).rev().find(|i| !is_absent(column.values[*i]));
    match newest {
        Some(i) if !is_stale(column.values[i]) => {
            let until = view.t + (block.clock[i] - view.start) - 1;
            (value(block.clock[i], column.values[i]), until)
        }
        _ => (ABSENT, TimeMs::MAX),
    }
}
