//! A leaf at work in the live runtime: from a ring to rows, block by block.
//!
//! A block is looked at again only when samples came or when its answer falls due: a sample leaves
//! the window, a value grows stale, an offset sample comes into view, or `rate` begins to move with
//! time. Few columns of a block may fall due before the rest: then only they are looked at. The
//! leaf keeps what it has to look at and asks for alarms ([`LiveLeaf::alarms`]); it is not asked in
//! between. How blocks are evaluated is in [`blocks`], what becomes of one column in [`values`].

mod blocks;
mod gaps_and_resets;
pub mod needed_times;
pub mod shared_sorted;
#[cfg(test)]
mod tests;
mod values;

use super::circular_matrix::reserve_slack;
use super::leaf_annotations::LeafAnnotations;
use super::ring::{RingBlock, SampleRing};
use crate::functions::Function;
use crate::functions::line_fit::LineFit;
use crate::functions::panes::PaneState;
use crate::functions::rate::RateValidity;
use crate::heap_size::HeapSize;
use crate::operators::evaluation_guard::EvaluationGuard;
use crate::operators::metric_names::leaf_labels;
use crate::operators::{ChangedRows, DuplicateLabels, EvalError, StepOutput};
use crate::plan::Dialect;
use crate::plan::physical::{Leaf, SampleSource};
use gaps_and_resets::GapsAndResets;
use shared_sorted::SharedSorted;
use std::collections::BTreeMap;
use storage::model::TimeMs;

/// State of one leaf in one shard.
pub struct LiveLeaf {
    /// What it reads.
    pub source: SampleSource,
    /// What it makes of it.
    pub leaf: Leaf,
    /// Index of its ring in the shard.
    pub ring: usize,
    lookback: i64,
    reads_starts: bool,
    /// Labels, not names, tell what is a counter.
    typed: bool,
    dialect: Dialect,
    blocks: Vec<BlockValidity>,
    /// Columns that fall due before the rest of their block, by block.
    early: BTreeMap<u32, Vec<EarlyColumn>>,
    /// Columns that move along a line, by block.
    lines: BTreeMap<u32, LinearColumns>,
    /// Long windows with gaps or resets, by block and column.
    irregular: BTreeMap<(u32, u32), GapsAndResets>,
    /// What long windows are summed up in, by block.
    panes: BTreeMap<u32, Box<dyn PaneState>>,
    trends: BTreeMap<u32, Box<dyn PaneState<LineFit>>>,
    /// What long windows are kept in order in.
    orders: SharedSorted,
    /// Blocks to look at.
    dirty: Vec<u32>,
    /// Alarms to be set: until when an answer holds, of which block.
    pub alarms: Vec<(TimeMs, u32)>,
    params: Vec<f64>,
    /// Why the function refuses these parameters.
    refused: Option<String>,
    /// Something was asked of a function that refuses its parameters.
    asked: bool,
    /// The latest evaluation, and the rows that it and others at the same time looked at.
    looked: (TimeMs, usize),
    /// The latest evaluation of what the ring has; MIN: it was filled anew since.
    reached: TimeMs,
    said: LeafAnnotations,
    twins: DuplicateLabels,
    /// Of the columns of one block: most have the same.
    standing: Option<RateValidity>,
    /// For use during an evaluation.
    ts: Vec<TimeMs>,
    vs: Vec<f64>,
    swept: Vec<f64>,
    fits: Vec<LineFit>,
    rising: Vec<LinearColumn>,
}

/// Until when the answer of a block holds.
#[derive(Copy, Clone)]
struct BlockValidity {
    /// Without its early columns; `TimeMs::MIN`: it has new samples, and is among the dirty ones.
    holds: TimeMs,
    /// For when the earliest alarm is set.
    alarm: TimeMs,
}

impl BlockValidity {
    const NEW: BlockValidity = BlockValidity { holds: TimeMs::MIN, alarm: TimeMs::MAX };
}

/// A column of which the answer holds only until then.
#[derive(Copy, Clone)]
struct EarlyColumn {
    column: u32,
    holds: TimeMs,
}

/// Columns of a block that move along a line while no sample comes or goes.
struct LinearColumns {
    /// Where the lines begin.
    from: TimeMs,
    /// What is shown is of this time.
    shown: TimeMs,
    of: Vec<LinearColumn>,
}

/// The line of a column: its value, and how much it rises per second.
struct LinearColumn {
    column: u32,
    value: f64,
    slope: f64,
}

/// The part of a block that a leaf looks at.
#[derive(Copy, Clone)]
struct BlockWindow {
    lo: usize,
    hi: usize,
    /// No earlier sample is looked at, nor one at this time.
    after: TimeMs,
    /// No later sample is looked at.
    until: TimeMs,
    start: TimeMs,
    end: TimeMs,
    t: TimeMs,
}

impl LiveLeaf {
    /// A leaf over ring number `ring`.
    pub fn new(
        source: SampleSource,
        leaf: Leaf,
        ring: usize,
        (lookback, dialect): (i64, Dialect),
    ) -> LiveLeaf {
        LiveLeaf {
            reads_starts: dialect.start_timestamps && leaf.reads_starts(),
            typed: dialect.type_and_unit_labels,
            dialect,
            source,
            leaf,
            ring,
            lookback,
            blocks: Vec::new(),
            early: BTreeMap::new(),
            lines: BTreeMap::new(),
            irregular: BTreeMap::new(),
            panes: BTreeMap::new(),
            dirty: Vec::new(),
            alarms: Vec::new(),
            params: Vec::new(),
            refused: None,
            asked: false,
            looked: (TimeMs::MIN, 0),
            reached: TimeMs::MIN,
            said: LeafAnnotations::default(),
            twins: DuplicateLabels::default(),
            standing: None,
            ts: Vec::new(),
            vs: Vec::new(),
            swept: Vec::new(),
            trends: BTreeMap::new(),
            orders: SharedSorted::default(),
            fits: Vec::new(),
            rising: Vec::new(),
        }
    }

    /// Forgets what was seen: the ring was filled anew.
    pub fn reset(&mut self) {
        self.reached = TimeMs::MIN;
        self.irregular.clear();
        self.panes.clear();
        self.trends.clear();
        self.orders.clear();
        self.forget_answers();
    }

    /// Forgets until when answers hold: all are to be given again.
    fn forget_answers(&mut self) {
        self.blocks.clear();
        self.early.clear();
        self.lines.clear();
        self.dirty.clear();
    }

    /// A block has new samples.
    pub fn disturb(&mut self, block: u32) {
        // A block that is not known yet is found at the next evaluation.
        let Some(seen) = self.blocks.get_mut(block as usize) else { return };
        if std::mem::replace(&mut seen.holds, TimeMs::MIN) != TimeMs::MIN {
            self.dirty.push(block);
        }
    }

    /// An alarm set for `until` has rung at `t`; whether there is something to look at.
    pub fn rung(&mut self, block: u32, until: TimeMs, t: TimeMs) -> bool {
        let Some(seen) = self.blocks.get_mut(block as usize).filter(|seen| seen.alarm == until) else {
            return false;
        };
        seen.alarm = TimeMs::MAX;
        if seen.holds == TimeMs::MIN {
            return false;
        }
        if self.holds(block) < t {
            self.dirty.push(block);
            return true;
        }
        self.set_alarm(block);
        false
    }

    /// Until when the answer of a block holds, all of its columns included.
    fn holds(&self, block: u32) -> TimeMs {
        let early = self.early.get(&block).into_iter().flatten().map(|early| early.holds);
        let lines = self.lines.get(&block).map(|lines| lines.shown);
        early.chain(lines).fold(self.blocks[block as usize].holds, TimeMs::min)
    }

    /// Bytes that it keeps beside its rows, its ring and what it shares with others
    /// ([`LiveLeaf::order_bytes`]).
    pub fn bytes(&self) -> usize {
        let early: usize = self.early.values().map(|early| early.capacity() * size_of::<EarlyColumn>()).sum();
        let lines: usize =
            self.lines.values().map(|lines| lines.of.capacity() * size_of::<LinearColumn>()).sum();
        let panes: usize = self.panes.values().map(|panes| panes.bytes()).sum();
        let trends: usize = self.trends.values().map(|trends| trends.bytes()).sum();
        let irregular = self.irregular.len() * size_of::<((u32, u32), GapsAndResets)>();
        let falls: usize = self.irregular.values().map(GapsAndResets::bytes).sum();
        let scratch = self.ts.heap() + self.vs.heap() + self.swept.heap() + self.params.heap();
        self.blocks.capacity() * size_of::<BlockValidity>()
            + early
            + lines
            + irregular
            + falls
            + panes
            + trends
            + self.fits.capacity() * size_of::<LineFit>()
            + scratch
            + self.alarms.heap()
            + self.said.bytes()
            + self.twins.heap()
            + size_of::<LiveLeaf>()
    }

    /// Whether its rows lose the names of their series here: then it wants the ring's bare labels.
    pub fn strips_names(&self) -> bool {
        !self.leaf.keeps_name() && !self.dialect.delayed_names
    }

    /// Asks for an alarm unless one is set that rings early enough.
    fn set_alarm(&mut self, block: u32) {
        let holds = self.holds(block);
        let seen = &mut self.blocks[block as usize];
        if holds < seen.alarm {
            seen.alarm = holds;
            self.alarms.push((holds, block));
        }
    }

    /// How many rows were looked at in the latest tick in which there was something to look at, if
    /// that was not before `since`.
    pub fn touched(&self, since: TimeMs) -> usize {
        if self.looked.0 < since { 0 } else { self.looked.1 }
    }

    fn function(&self) -> Option<&'static Function> {
        if let Leaf::Window(function, _) = &self.leaf { Some(function.0) } else { None }
    }

    /// Brings `out` up to `t`. Returns how many rows were looked at.
    pub fn eval(&mut self, ring: &SampleRing, t: TimeMs, params: Vec<f64>, out: &mut StepOutput) -> usize {
        let mut touched = Vec::new();
        let more = ring.labels.len().saturating_sub(out.labels.len());
        reserve_slack(&mut out.labels, more);
        reserve_slack(&mut out.values, more);
        for row in out.labels.len()..ring.labels.len() {
            if self.strips_names() {
                out.add_row(ring.labels_without_name[row].clone());
            } else {
                out.add_row_with_name_flag(leaf_labels(&self.leaf, &ring.labels[row], self.dialect));
            }
            out.sorted = false;
        }
        self.said.learn(&self.leaf, &ring.labels, self.typed);
        self.learn_params(params);
        self.asked = false;
        for block in self.blocks.len()..ring.blocks.len() {
            self.blocks.push(BlockValidity::NEW);
            self.dirty.push(block as u32);
        }
        let mut rows = 0;
        let mut dirty = std::mem::take(&mut self.dirty);
        for number in dirty.drain(..) {
            let block = &ring.blocks[number as usize];
            rows += if self.blocks[number as usize].holds < t {
                self.block(number, block, t, ring, out, &mut touched)
            } else {
                self.early(number, block, t, ring, out, &mut touched)
                    + self.glide(number, block, t, out, &mut touched)
            };
            self.set_alarm(number);
        }
        self.dirty = dirty;
        self.settle(ring, out, touched);
        let before = if self.looked.0 == t { self.looked.1 } else { 0 };
        self.looked = (t, before + rows);
        self.reached = t;
        rows
    }

    /// Takes parameters; if they are others than before, everything is to be looked at again.
    fn learn_params(&mut self, params: Vec<f64>) {
        let same = params.len() == self.params.len()
            && params.iter().zip(&self.params).all(|(a, b)| a.to_bits() == b.to_bits());
        if !same || self.blocks.is_empty() {
            let check = self.function().and_then(|function| function.check);
            self.refused = check.and_then(|check| check(&params).err());
            self.params = params;
            self.forget_answers();
        }
    }

    /// Notes what changed, and checks that dropping names left no two rows with the same labels.
    fn settle(&mut self, ring: &SampleRing, out: &mut StepOutput, touched: Vec<u32>) {
        let before = out.error.take();
        if ring.has_doubles && !matches!(self.leaf, Leaf::Value | Leaf::Present(_) | Leaf::Info) {
            let mut pace = EvaluationGuard::free();
            let alone = self.twins.learn(out, &mut pace).and_then(|()| self.twins.check(out, &mut pace));
            out.error = alone.err().map(|EvalError(e)| e);
        }
        if self.asked {
            out.error.clone_from(&self.refused);
        }
        self.said.settle(self.function(), &self.params, out);
        if before != out.error {
            out.changed = ChangedRows::All;
            out.version += 1;
        } else if !touched.is_empty() {
            out.changed = ChangedRows::Rows(touched);
            out.version += 1;
        }
    }

    /// What is in view of a block at `t`.
    fn view(&self, block: &RingBlock, t: TimeMs) -> BlockWindow {
        let end = self.source.time(t, t, t);
        let (back, ahead) = self.source.reach(&self.leaf, self.lookback);
        let after = end - back;
        let until = end + ahead;
        let start = if let Leaf::Window(_, range) = &self.leaf { end - range } else { after };
        let hi = block.clock().partition_point(|c| *c <= until);
        let lo = block.clock()[..hi].partition_point(|c| *c <= after);
        BlockWindow { lo, hi, after, until, start, end, t }
    }

    /// Until when the answers of a block hold as far as its clock knows.
    fn block_holds(&self, block: &RingBlock, view: BlockWindow) -> TimeMs {
        let BlockWindow { lo, hi, t, .. } = view;
        // A sample ahead of the view (offset, or one that came early) comes into view later.
        let ahead = block.clock().get(hi).map_or(TimeMs::MAX, |next| t + (next - view.until) - 1);
        if self.source.extension.is_some() || self.refused.is_some() {
            return t;
        }
        if lo == hi {
            return ahead;
        }
        // The newest sample of a selector, the oldest of a window.
        let decides = if self.is_latest() { hi - 1 } else { lo };
        ahead.min(t + (block.clock()[decides] - view.after) - 1)
    }

    /// Whether the newest sample in view is all that counts.
    fn is_latest(&self) -> bool {
        matches!(self.leaf, Leaf::Value | Leaf::Timestamp(_) | Leaf::StartTimestamp | Leaf::Info)
    }
}
