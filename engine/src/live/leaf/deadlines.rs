//! Decides which blocks of a leaf must be evaluated, and when: those with new samples, and those
//! whose answer expires. A block is the series of the leaf's ring that share their times.
//!
//! Columns (series) that expire before the rest of their block, and columns whose value moves along
//! a line, have entries of their own, because evaluating them alone is cheaper than evaluating
//! their block. The shard keeps the timers (`live/local/timers.rs`).

use crate::live::check::EvaluationCause;
use crate::live::ring::SampleRing;
use std::collections::BTreeMap;
use storage::model::TimeMs;

/// A request for a timer: the block must be evaluated after `deadline`.
#[derive(Copy, Clone, Debug)]
pub struct BlockTimer {
    /// The answer is valid until this time.
    pub deadline: TimeMs,
    /// Number of the block in the leaf's ring.
    pub block: u32,
}

/// The deadlines of all blocks of a leaf.
pub(super) struct BlockDeadlines {
    blocks: Vec<BlockValidity>,
    /// By block: columns whose answer expires before the rest of their block (for example because
    /// the series has a gap). Only these are evaluated again at that time.
    pub early: BTreeMap<u32, Vec<EarlyColumn>>,
    /// By block: columns whose value changes linearly with time.
    pub linear: BTreeMap<u32, LinearColumns>,
    /// Blocks to evaluate next time.
    dirty: Vec<u32>,
    /// Timers to be set.
    timers: Vec<BlockTimer>,
    /// From when on the next evaluation holds: the least time at which a sample that came changes
    /// an answer, or an answer expired. `TimeMs::MAX`: neither.
    since: TimeMs,
    /// The cause to report for blocks that this leaf evaluates for the first time.
    pub first_cause: EvaluationCause,
}

/// Until when the answer of a block is valid.
#[derive(Copy, Clone)]
struct BlockValidity {
    /// For all columns but the early and the linear ones. `TimeMs::MIN`: the block has new samples
    /// and is in `dirty`.
    valid_until: TimeMs,
    /// The deadline of the earliest timer that is set for the block.
    timer: TimeMs,
    /// The latest evaluation of any of its columns; `TimeMs::MIN`: there was none.
    evaluated: TimeMs,
    /// Why that was.
    cause: EvaluationCause,
}

impl BlockValidity {
    const NEW: BlockValidity = BlockValidity {
        valid_until: TimeMs::MIN,
        timer: TimeMs::MAX,
        evaluated: TimeMs::MIN,
        cause: EvaluationCause::Load,
    };
}

/// A column whose answer is valid only until `valid_until`.
#[derive(Copy, Clone)]
pub(super) struct EarlyColumn {
    pub column: u32,
    pub valid_until: TimeMs,
}

/// Columns of a block whose values are linear in time until a sample arrives or leaves.
pub(super) struct LinearColumns {
    /// The time at which the lines begin.
    pub from: TimeMs,
    /// The time whose values are in the output.
    pub shown: TimeMs,
    pub columns: Vec<LinearColumn>,
}

/// The line of a column: the value at its beginning, and the slope per second.
pub(super) struct LinearColumn {
    pub column: u32,
    pub value: f64,
    pub slope: f64,
}

impl Default for BlockDeadlines {
    fn default() -> BlockDeadlines {
        BlockDeadlines {
            blocks: Vec::new(),
            early: BTreeMap::new(),
            linear: BTreeMap::new(),
            dirty: Vec::new(),
            timers: Vec::new(),
            since: TimeMs::MAX,
            first_cause: EvaluationCause::Load,
        }
    }
}

impl BlockDeadlines {
    /// Whether the leaf knows no block yet.
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Forgets until when answers are valid, so that the next evaluation computes all of them.
    pub(super) fn clear(&mut self) {
        self.blocks.clear();
        self.early.clear();
        self.linear.clear();
        self.dirty.clear();
    }

    /// The ring has `blocks` blocks: the new ones must be evaluated.
    pub(super) fn add_blocks(&mut self, blocks: usize) {
        // Blocks of a ring are never removed, so a block keeps its number.
        for block in self.blocks.len()..blocks {
            self.blocks.push(BlockValidity::NEW);
            self.dirty.push(block as u32);
        }
    }

    /// Marks a block for evaluation: it has new samples, which change answers from `since` on.
    pub(super) fn mark_dirty(&mut self, block: u32, since: TimeMs) {
        self.since = self.since.min(since);
        // A block that the leaf does not know yet is evaluated next time anyway.
        let Some(state) = self.blocks.get(block as usize) else { return };
        // `MIN` doubles as the mark that the block is in `dirty`: a target that is scraped twice
        // between two ticks is listed once.
        if state.valid_until == TimeMs::MIN {
            return;
        }
        // The answer may have expired before the sample.
        self.expires(block);
        self.blocks[block as usize].valid_until = TimeMs::MIN;
        self.dirty.push(block);
    }

    /// Records when the answer of a block expires or has expired.
    fn expires(&mut self, block: u32) {
        self.since = self.since.min(self.valid_until(block).saturating_add(1));
    }

    /// From when on an evaluation at `t` holds; see `since`.
    pub(super) fn take_since(&mut self, t: TimeMs) -> TimeMs {
        std::mem::replace(&mut self.since, TimeMs::MAX).min(t)
    }

    /// Removes and returns the blocks to evaluate. To be given back, empty, with
    /// [`BlockDeadlines::recycle`].
    pub(super) fn take_dirty(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.dirty)
    }

    /// Takes a list back for reuse.
    pub(super) fn recycle(&mut self, dirty: Vec<u32>) {
        self.dirty = dirty;
    }

    /// A timer that was set for `deadline` has expired at `t`. Returns whether the block needs an
    /// evaluation.
    pub(super) fn timer_expired(&mut self, block: u32, deadline: TimeMs, t: TimeMs) -> bool {
        // Timers are not removed when a later evaluation makes them unnecessary, because a heap
        // cannot remove cheaply. An old one is recognised by its deadline.
        let Some(state) = self.blocks.get_mut(block as usize).filter(|state| state.timer == deadline) else {
            return false;
        };
        state.timer = TimeMs::MAX;
        // The block has new samples, so it is evaluated anyway.
        if state.valid_until == TimeMs::MIN {
            return false;
        }
        if self.valid_until(block) < t {
            self.expires(block);
            self.dirty.push(block);
            return true;
        }
        // Later samples have prolonged the answer.
        self.request_timer(block);
        false
    }

    /// Requests a timer unless one is set that expires early enough.
    pub(super) fn request_timer(&mut self, block: u32) {
        let deadline = self.valid_until(block);
        let state = &mut self.blocks[block as usize];
        // A timer that is set for earlier stays. When it expires, the block is still valid and a
        // new one is requested.
        if deadline < state.timer {
            state.timer = deadline;
            self.timers.push(BlockTimer { deadline, block });
        }
    }

    /// Removes and returns the timers to be set.
    pub(super) fn drain_timers(&mut self) -> std::vec::Drain<'_, BlockTimer> {
        self.timers.drain(..)
    }

    /// Until when the answer of a block is valid, with its early and linear columns.
    fn valid_until(&self, block: u32) -> TimeMs {
        let early = self.early.get(&block).into_iter().flatten().map(|early| early.valid_until);
        // A line has the right value only at the time that is shown, so the block falls due at the
        // next tick.
        let linear = self.linear.get(&block).map(|lines| lines.shown);
        early.chain(linear).fold(self.blocks[block as usize].valid_until, TimeMs::min)
    }

    /// Until when the answer of a block is valid, without its early and linear columns.
    pub(super) fn rest_valid_until(&self, block: u32) -> TimeMs {
        self.blocks[block as usize].valid_until
    }

    /// A block was evaluated: sets until when the answers of all but its early and linear columns
    /// are valid.
    pub(super) fn set_valid_until(&mut self, block: u32, valid_until: TimeMs) {
        self.blocks[block as usize].valid_until = valid_until;
    }

    /// Records that a block is evaluated at `t`, and why.
    pub(super) fn note_cause(&mut self, block: u32, t: TimeMs) {
        let state = &mut self.blocks[block as usize];
        state.cause = if state.evaluated == TimeMs::MIN {
            self.first_cause
        } else if state.valid_until == TimeMs::MIN {
            EvaluationCause::Sample
        } else {
            EvaluationCause::Timer
        };
        state.evaluated = t;
    }

    /// The deadline of the earliest timer. `None`: none is set.
    pub(super) fn next_due(&self) -> Option<TimeMs> {
        self.blocks.iter().map(|block| block.timer).filter(|timer| *timer < TimeMs::MAX).min()
    }

    /// The rows of the ring that were evaluated, when, and why.
    pub(super) fn evaluations<'a>(
        &'a self,
        ring: &'a SampleRing,
    ) -> impl Iterator<Item = (usize, TimeMs, EvaluationCause)> + 'a {
        let evaluated =
            ring.blocks.iter().zip(&self.blocks).filter(|(_, state)| state.evaluated > TimeMs::MIN);
        evaluated.flat_map(|(block, state)| {
            block.columns.iter().map(|column| (column.row as usize, state.evaluated, state.cause))
        })
    }

    /// Bytes allocated.
    pub(super) fn bytes(&self) -> usize {
        let early: usize = self.early.values().map(|early| early.capacity() * size_of::<EarlyColumn>()).sum();
        let linear: usize =
            self.linear.values().map(|lines| lines.columns.capacity() * size_of::<LinearColumn>()).sum();
        self.blocks.capacity() * size_of::<BlockValidity>()
            + early
            + linear
            + self.timers.capacity() * size_of::<BlockTimer>()
    }
}
