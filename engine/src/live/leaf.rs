//! A leaf of a view in the live runtime: it turns the samples of a ring into rows, block by block.
//! A leaf is a selector or a window function over one; a block is the columns of a ring that share
//! their times, mostly one scrape target.
//!
//! A block is evaluated again only when samples arrived or when its answer expires: a sample leaves
//! the window, a value becomes stale, a sample ahead of the window comes into it (with an offset),
//! or the value of `rate` begins to change with time. If the answers of only a few columns expire
//! before the rest, only these are evaluated. [`deadlines`] lists the blocks that need an
//! evaluation and requests timers; between them the leaf does no work. [`blocks`] evaluates a
//! block, [`columns`] one column.

mod annotations;
mod blocks;
mod columns;
mod config;
mod deadlines;
mod gaps_and_resets;
pub mod needed_times;
mod params;
mod progress;
mod scratch;
pub mod shared_sorted;
#[cfg(test)]
mod tests;
mod window_states;

use super::check::EvaluationCause;
use super::circular_matrix::reserve_slack;
use super::ring::{RingBlock, SampleRing};
use crate::functions::WindowKernel;
use crate::heap_size::HeapSize;
use crate::operators::evaluation_guard::EvaluationGuard;
use crate::operators::metric_names::leaf_labels;
use crate::operators::{ChangedRows, DuplicateLabels, EvalError, StepOutput};
use crate::plan::physical::Leaf;
use annotations::LeafAnnotations;
use blocks::{BlockTarget, NumberedBlock};
use deadlines::BlockDeadlines;
use params::LeafParams;
use progress::LeafProgress;
use scratch::{BlockScratch, BlockTrends};
use storage::model::TimeMs;
use window_states::WindowStates;

pub use config::LeafConfig;
pub use deadlines::BlockTimer;

/// The state of one leaf in one shard.
pub struct LiveLeaf {
    /// What the leaf computes.
    pub config: LeafConfig,
    /// Index of the leaf's ring in the shard.
    pub ring: usize,
    params: LeafParams,
    deadlines: BlockDeadlines,
    windows: WindowStates,
    progress: LeafProgress,
    annotations: LeafAnnotations,
    duplicates: DuplicateLabels,
    scratch: BlockScratch,
    trends: BlockTrends,
}

/// The rows of a block that are in the window of a leaf.
#[derive(Copy, Clone)]
struct BlockWindow {
    /// The rows `lo..hi`, counted from the oldest of the block.
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
    /// A leaf over ring number `ring`.
    pub fn new(config: LeafConfig, ring: usize) -> LiveLeaf {
        LiveLeaf {
            config,
            ring,
            params: LeafParams::default(),
            deadlines: BlockDeadlines::default(),
            windows: WindowStates::default(),
            progress: LeafProgress::NEW,
            annotations: LeafAnnotations::default(),
            duplicates: DuplicateLabels::default(),
            scratch: BlockScratch::default(),
            trends: BlockTrends::default(),
        }
    }

    /// Forgets all state: the ring was filled again from the store.
    pub fn reset(&mut self) {
        self.progress.ring_filled();
        self.deadlines.first_cause = EvaluationCause::Load;
        self.windows.clear();
        self.deadlines.clear();
    }

    /// Marks a block for evaluation: it has new samples, the earliest of time `sample_t`.
    pub fn mark_dirty(&mut self, block: u32, sample_t: TimeMs) {
        #[cfg(debug_assertions)]
        if super::fault::ignores_samples() {
            return;
        }
        self.deadlines.mark_dirty(block, self.config.first_read(sample_t));
    }

    /// A timer that was set for `deadline` has expired at `t`. Returns whether the block needs an
    /// evaluation.
    pub fn timer_expired(&mut self, block: u32, deadline: TimeMs, t: TimeMs) -> bool {
        self.deadlines.timer_expired(block, deadline, t)
    }

    /// Removes and returns the timers that the leaf wants to be set.
    pub fn drain_timers(&mut self) -> std::vec::Drain<'_, BlockTimer> {
        self.deadlines.drain_timers()
    }

    /// The deadline of the earliest of its timers. `None`: none is set.
    pub fn next_due(&self) -> Option<TimeMs> {
        self.deadlines.next_due()
    }

    /// The rows of the ring that were evaluated, when, and why.
    pub fn evaluations<'a>(
        &'a self,
        ring: &'a SampleRing,
    ) -> impl Iterator<Item = (usize, TimeMs, EvaluationCause)> + 'a {
        self.deadlines.evaluations(ring)
    }

    /// Bytes of the leaf's own state, without its rows, its ring and the sorted values that leaves
    /// share ([`LiveLeaf::sorted_bytes`]).
    pub fn bytes(&self) -> usize {
        self.deadlines.bytes()
            + self.windows.bytes()
            + self.params.bytes()
            + self.scratch.bytes()
            + self.annotations.bytes()
            + self.duplicates.heap()
            + size_of::<LiveLeaf>()
    }

    /// How many rows were read in the latest tick that had something to evaluate; 0 if that tick
    /// was before `since`.
    pub fn rows_read_since(&self, since: TimeMs) -> usize {
        self.progress.rows_since(since)
    }

    /// The kernel, if the function's value depends on nothing but the floats in the window.
    fn float_kernel(&self) -> Option<WindowKernel> {
        if self.params.are_rejected() { None } else { self.config.kernel() }
    }

    /// Brings `out` to time `t`. Returns how many rows were evaluated.
    pub fn eval(&mut self, ring: &SampleRing, t: TimeMs, params: Vec<f64>, out: &mut StepOutput) -> usize {
        self.add_rows(ring, out);
        self.annotations.add_rows(&self.config.leaf, &ring.labels, self.config.dialect.type_and_unit_labels);
        self.update_params(params);
        // Collected anew by the blocks below. With rejected parameters every block is evaluated at
        // every tick, see `window_valid_until`.
        self.params.met_samples = false;
        self.deadlines.add_blocks(ring.blocks.len());
        let mut changed = Vec::new();
        let mut rows = 0;
        let mut dirty = self.deadlines.take_dirty();
        let mut target = BlockTarget { ring, out: &mut *out, changed: &mut changed };
        for number in dirty.drain(..) {
            let block = NumberedBlock { number, block: &ring.blocks[number as usize] };
            self.deadlines.note_cause(number, t);
            // Either the whole block, or only the columns that fall due by themselves: a block of
            // 1,000 series must not be evaluated because one of them has a gap.
            rows += if self.deadlines.rest_valid_until(number) < t {
                self.eval_block(block, t, &mut target)
            } else {
                self.eval_early_columns(block, t, &mut target)
                    + self.advance_linear_columns(block, t, &mut target)
            };
            // After the evaluation, which has set the new validity. Between two requests the timer
            // that is set may be too early, never too late.
            self.deadlines.request_timer(number);
        }
        self.deadlines.recycle(dirty);
        let since = self.deadlines.take_since(t);
        self.publish(ring, out, changed, since);
        self.progress.record(t, rows);
        self.deadlines.first_cause = EvaluationCause::Sample;
        rows
    }

    /// Adds the rows of series that were added to the ring.
    fn add_rows(&self, ring: &SampleRing, out: &mut StepOutput) {
        let more = ring.labels.len().saturating_sub(out.labels.len());
        reserve_slack(&mut out.labels, more);
        reserve_slack(&mut out.values, more);
        // Rows of the ring and of the output have the same numbers, so no map between them is
        // needed.
        for row in out.labels.len()..ring.labels.len() {
            if self.config.strips_names() {
                out.add_row(ring.labels_without_name[row].clone());
            } else {
                let labels = leaf_labels(&self.config.leaf, &ring.labels[row], self.config.dialect);
                out.add_row_with_name_flag(labels);
            }
            out.sorted = false;
        }
    }

    /// Sets the parameters. If they differ from the previous ones, all blocks must be evaluated
    /// again.
    fn update_params(&mut self, values: Vec<f64>) {
        let differ = self.params.differ_from(&values);
        // Before the first block the check of the parameters has not run yet.
        // A parameter that is a function of time has a new value at every tick; one that is a
        // constant costs only this comparison.
        if !differ && !self.deadlines.is_empty() {
            return;
        }
        self.params.set(values, self.config.function());
        // The first parameters of a leaf are no change.
        if differ && self.has_seen_all() {
            self.deadlines.first_cause = EvaluationCause::Parameter;
        }
        self.deadlines.clear();
    }

    /// Records which rows changed, and checks that no two rows have the same labels once the names
    /// are dropped. The change holds from `since` on.
    fn publish(&mut self, ring: &SampleRing, out: &mut StepOutput, changed: Vec<u32>, since: TimeMs) {
        // Whether there is an error is decided again at every evaluation, because it depends on
        // which samples are in the windows.
        let before = out.error.take();
        let version = out.version;
        let leaf = &self.config.leaf;
        // These leaves keep the name, so their labels differ as those of the series do.
        // Only for selectors without a metric name: with one, two series of a selector cannot
        // differ in the name alone, and comparing labels at every tick would cost more than the
        // window.
        if ring.may_have_duplicates && !matches!(leaf, Leaf::Value | Leaf::Present(_) | Leaf::Info) {
            out.error = self.find_duplicates(out).err().map(|EvalError(e)| e);
        }
        if self.params.met_samples {
            out.error = self.params.rejection.map(|rejection| rejection.to_string());
        }
        self.annotations.publish(self.config.function(), &self.params.values, out);
        // Readers must see all rows again: while there was an error they have not followed the
        // changes.
        if before != out.error {
            out.changed = ChangedRows::All;
            out.version += 1;
        } else if !changed.is_empty() {
            out.changed = ChangedRows::Rows(changed);
            out.version += 1;
        }
        if out.version != version {
            out.since = Some(since);
        }
    }

    fn find_duplicates(&mut self, out: &StepOutput) -> Result<(), EvalError> {
        let mut eval_guard = EvaluationGuard::free();
        self.duplicates.add_rows(out, &mut eval_guard)?;
        self.duplicates.check(out, &mut eval_guard)
    }

    /// Until when the answers of a block are valid, as far as the times of its rows decide it.
    fn window_valid_until(&self, block: &RingBlock, window: BlockWindow) -> TimeMs {
        // Whether an error is reported depends on the samples in the window at every tick.
        if self.params.are_rejected() { window.t } else { self.config.window_valid_until(block, window) }
    }
}
