//! A leaf of a view in the live runtime: it turns the samples of a ring into rows, block by block.
//! A leaf is a selector or a window function over one; a block is the columns of a ring that share
//! their times, mostly one scrape target.
//!
//! A block is evaluated again only when samples arrived or when its answer expires: a sample leaves
//! the window, a value becomes stale, a sample ahead of the window comes into it (with an offset),
//! or the value of `rate` begins to change with time. If the answers of only a few columns expire
//! before the rest, only these are evaluated. [`LiveLeaf`] lists the blocks that need an evaluation
//! and requests timers ([`LiveLeaf::alarms`]); between them it does no work. [`blocks`] evaluates a
//! block, [`values`] one column.

mod blocks;
mod gaps_and_resets;
pub mod needed_times;
pub mod shared_sorted;
#[cfg(test)]
mod tests;
mod values;

use super::check::EvaluationCause;
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

/// The state of one leaf in one shard.
pub struct LiveLeaf {
    /// The samples that the leaf reads: matchers, offset, `@`.
    pub source: SampleSource,
    /// The function that the leaf applies to them.
    pub leaf: Leaf,
    /// Index of the leaf's ring in the shard.
    pub ring: usize,
    lookback: i64,
    reads_starts: bool,
    /// Whether the label `__type__`, not the end of the name, says what is a counter.
    typed: bool,
    dialect: Dialect,
    blocks: Vec<BlockValidity>,
    /// By block: columns whose answer expires before the rest of their block (for example because
    /// the series has a gap). Only these are evaluated again at that time.
    early: BTreeMap<u32, Vec<EarlyColumn>>,
    /// By block: columns whose value changes linearly with time.
    lines: BTreeMap<u32, LinearColumns>,
    /// By block and column: gaps and counter resets of long windows.
    irregular: BTreeMap<(u32, u32), GapsAndResets>,
    /// By block: the partial results (panes) of long windows.
    panes: BTreeMap<u32, Box<dyn PaneState>>,
    trends: BTreeMap<u32, Box<dyn PaneState<LineFit>>>,
    /// The sorted values of long windows, for quantiles.
    orders: SharedSorted,
    /// Blocks to evaluate at the next [`LiveLeaf::eval`].
    dirty: Vec<u32>,
    /// Timers to be set: the time until which an answer holds, and its block.
    pub alarms: Vec<(TimeMs, u32)>,
    params: Vec<f64>,
    /// Why the function rejects the current parameters.
    refused: Option<String>,
    /// In this evaluation a window had samples although the function rejects its parameters. Only
    /// then is that an error: Prometheus reports none for an empty selector.
    asked: bool,
    /// The time of the latest evaluation, and how many rows all evaluations at that time read.
    looked: (TimeMs, usize),
    /// The time of the latest evaluation since the ring was last filled from the store;
    /// `TimeMs::MIN`: none since.
    reached: TimeMs,
    /// Why blocks are evaluated that this leaf has not evaluated yet.
    first_cause: EvaluationCause,
    said: LeafAnnotations,
    twins: DuplicateLabels,
    /// The validity that was computed last for `rate` in this block. Most columns of a block have
    /// the same, so it is reused.
    standing: Option<RateValidity>,
    /// Buffers for an evaluation, kept so that it does not allocate.
    ts: Vec<TimeMs>,
    vs: Vec<f64>,
    swept: Vec<f64>,
    fits: Vec<LineFit>,
    rising: Vec<LinearColumn>,
}

/// Until when the answer of a block holds.
#[derive(Copy, Clone)]
struct BlockValidity {
    /// For all columns but the early and the linear ones. `TimeMs::MIN`: the block has new samples
    /// and is in `dirty`.
    holds: TimeMs,
    /// The time of the earliest timer that is set for the block.
    alarm: TimeMs,
    /// The latest evaluation of any of its columns; `TimeMs::MIN`: there was none.
    evaluated: TimeMs,
    /// Why that was.
    cause: EvaluationCause,
}

impl BlockValidity {
    const NEW: BlockValidity = BlockValidity {
        holds: TimeMs::MIN,
        alarm: TimeMs::MAX,
        evaluated: TimeMs::MIN,
        cause: EvaluationCause::Load,
    };
}

/// A column whose answer holds only until `holds`.
#[derive(Copy, Clone)]
struct EarlyColumn {
    column: u32,
    holds: TimeMs,
}

/// Columns of a block whose values are linear in time until a sample arrives or leaves.
struct LinearColumns {
    /// The time at which the lines begin.
    from: TimeMs,
    /// The time whose values are in the output.
    shown: TimeMs,
    of: Vec<LinearColumn>,
}

/// The line of a column: the value at `from`, and the slope per second.
struct LinearColumn {
    column: u32,
    value: f64,
    slope: f64,
}

/// The rows of a block that are in the window of a leaf.
#[derive(Copy, Clone)]
struct BlockWindow {
    lo: usize,
    hi: usize,
    /// Samples at this time and before it are not read.
    after: TimeMs,
    /// Samples after this time are not read.
    until: TimeMs,
    start: TimeMs,
    end: TimeMs,
    t: TimeMs,
}

impl LiveLeaf {
    /// A leaf over ring number `ring`. `lookback` in ms.
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
            first_cause: EvaluationCause::Load,
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

    /// Forgets all state: the ring was filled again from the store.
    pub fn reset(&mut self) {
        self.reached = TimeMs::MIN;
        self.first_cause = EvaluationCause::Load;
        self.irregular.clear();
        self.panes.clear();
        self.trends.clear();
        self.orders.clear();
        self.forget_answers();
    }

    /// Forgets until when answers hold, so that the next evaluation computes all of them.
    fn forget_answers(&mut self) {
        self.blocks.clear();
        self.early.clear();
        self.lines.clear();
        self.dirty.clear();
    }

    /// Marks a block for evaluation: it has new samples.
    pub fn disturb(&mut self, block: u32) {
        #[cfg(debug_assertions)]
        if super::fault::ignores_samples() {
            return;
        }
        // A block that the leaf does not know yet is evaluated next time anyway.
        let Some(seen) = self.blocks.get_mut(block as usize) else { return };
        if std::mem::replace(&mut seen.holds, TimeMs::MIN) != TimeMs::MIN {
            self.dirty.push(block);
        }
    }

    /// A timer that was set for `until` has expired at `t`. Returns whether the block needs an
    /// evaluation.
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

    /// Until when the answer of a block holds, with its early and linear columns.
    fn holds(&self, block: u32) -> TimeMs {
        let early = self.early.get(&block).into_iter().flatten().map(|early| early.holds);
        let lines = self.lines.get(&block).map(|lines| lines.shown);
        early.chain(lines).fold(self.blocks[block as usize].holds, TimeMs::min)
    }

    /// Bytes of the leaf's own state, without its rows, its ring and the sorted values that leaves
    /// share ([`LiveLeaf::order_bytes`]).
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

    /// Whether the rows lose the metric name in this leaf. Then it uses the ring's labels without
    /// names, which all such leaves share.
    pub fn strips_names(&self) -> bool {
        !self.leaf.keeps_name() && !self.dialect.delayed_names
    }

    /// Requests a timer unless one is set that expires early enough.
    fn set_alarm(&mut self, block: u32) {
        let holds = self.holds(block);
        let seen = &mut self.blocks[block as usize];
        if holds < seen.alarm {
            seen.alarm = holds;
            self.alarms.push((holds, block));
        }
    }

    /// How many rows were read in the latest tick that had something to evaluate; 0 if that tick
    /// was before `since`.
    pub fn touched(&self, since: TimeMs) -> usize {
        if self.looked.0 < since { 0 } else { self.looked.1 }
    }

    fn function(&self) -> Option<&'static Function> {
        if let Leaf::Window(function, _) = &self.leaf { Some(function.0) } else { None }
    }

    /// Brings `out` to time `t`. Returns how many rows were evaluated.
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
            self.note_cause(number, t);
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
        self.first_cause = EvaluationCause::Sample;
        rows
    }

    /// Notes that a block is evaluated at `t`, and why.
    fn note_cause(&mut self, block: u32, t: TimeMs) {
        let seen = &mut self.blocks[block as usize];
        seen.cause = if seen.evaluated == TimeMs::MIN {
            self.first_cause
        } else if seen.holds == TimeMs::MIN {
            EvaluationCause::Sample
        } else {
            EvaluationCause::Timer
        };
        seen.evaluated = t;
    }

    /// When the earliest of its alarms rings: after this time. `None`: none is set.
    pub fn next_due(&self) -> Option<TimeMs> {
        self.blocks.iter().map(|block| block.alarm).filter(|alarm| *alarm < TimeMs::MAX).min()
    }

    /// The rows of the ring that were evaluated, when, and why.
    pub fn evaluations<'a>(
        &'a self,
        ring: &'a SampleRing,
    ) -> impl Iterator<Item = (usize, TimeMs, EvaluationCause)> + 'a {
        let seen = ring.blocks.iter().zip(&self.blocks).filter(|(_, seen)| seen.evaluated > TimeMs::MIN);
        seen.flat_map(|(block, seen)| {
            block.columns.iter().map(|column| (column.row as usize, seen.evaluated, seen.cause))
        })
    }

    /// Sets the parameters. If they differ from the previous ones, all blocks must be evaluated
    /// again.
    fn learn_params(&mut self, params: Vec<f64>) {
        let same = params.len() == self.params.len()
            && params.iter().zip(&self.params).all(|(a, b)| a.to_bits() == b.to_bits());
        if !same || self.blocks.is_empty() {
            let check = self.function().and_then(|function| function.check);
            self.refused = check.and_then(|check| check(&params).err());
            self.params = params;
            if !same && self.reached > TimeMs::MIN {
                self.first_cause = EvaluationCause::Parameter;
            }
            self.forget_answers();
        }
    }

    /// Records which rows changed, and checks that no two rows have the same labels once the names
    /// are dropped.
    fn settle(&mut self, ring: &SampleRing, out: &mut StepOutput, touched: Vec<u32>) {
        let before = out.error.take();
        if ring.has_doubles && !matches!(self.leaf, Leaf::Value | Leaf::Present(_) | Leaf::Info) {
            let mut eval_guard = EvaluationGuard::free();
            let alone =
                self.twins.learn(out, &mut eval_guard).and_then(|()| self.twins.check(out, &mut eval_guard));
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

    /// The rows of a block that are in the window at `t`.
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

    /// Until when the answers of a block hold, as far as the times of its rows decide it.
    fn block_holds(&self, block: &RingBlock, view: BlockWindow) -> TimeMs {
        let BlockWindow { lo, hi, t, .. } = view;
        // A sample after the window's end (offset, or a timestamp in the future) comes into the
        // window later.
        let ahead = block.clock().get(hi).map_or(TimeMs::MAX, |next| t + (next - view.until) - 1);
        if self.source.extension.is_some() || self.refused.is_some() {
            return t;
        }
        if lo == hi {
            return ahead;
        }
        // A selector's answer ends when its newest sample becomes stale, a window's when its oldest
        // leaves.
        let decides = if self.is_latest() { hi - 1 } else { lo };
        ahead.min(t + (block.clock()[decides] - view.after) - 1)
    }

    /// Whether the answer depends on the newest sample in the window only.
    fn is_latest(&self) -> bool {
        matches!(self.leaf, Leaf::Value | Leaf::Timestamp(_) | Leaf::StartTimestamp | Leaf::Info)
    }
}
