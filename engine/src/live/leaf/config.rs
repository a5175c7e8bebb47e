//! What a leaf computes: the part of it that is fixed when a view is installed, and the same in all
//! shards. What changes with samples and time is in [`super::LiveLeaf`].

use super::BlockWindow;
use crate::functions::series_slices::{derive_reset_hints, leave_buckets};
use crate::functions::window::TimedHistogram;
use crate::functions::{Function, Kernel, WindowKernel};
use crate::live::ring::RingBlock;
use crate::plan::Dialect;
use crate::plan::physical::{Leaf, SampleSource};
use storage::model::TimeMs;

/// The definition of a leaf.
#[derive(Clone)]
pub struct LeafConfig {
    /// The samples that the leaf reads: matchers, offset, `@`.
    pub source: SampleSource,
    /// The function that the leaf applies to them.
    pub leaf: Leaf,
    /// How far back an instant selector looks, in ms.
    pub lookback: i64,
    /// The feature flags of the query language that change results.
    pub dialect: Dialect,
    /// Whether the leaf needs the start timestamps of counters.
    pub(super) reads_starts: bool,
}

impl LeafConfig {
    /// The definition of a leaf; `lookback` in ms.
    pub fn new(source: SampleSource, leaf: Leaf, lookback: i64, dialect: Dialect) -> LeafConfig {
        let reads_starts = dialect.start_timestamps && leaf.reads_starts();
        LeafConfig { source, leaf, lookback, dialect, reads_starts }
    }

    /// The window function, if the leaf is one.
    pub(super) fn function(&self) -> Option<&'static Function> {
        if let Leaf::Window(function, _) = &self.leaf { Some(function.0) } else { None }
    }

    /// The kernel of the window function, if its value depends on nothing but the samples in the
    /// window.
    pub(super) fn kernel(&self) -> Option<WindowKernel> {
        // `anchored` and `smoothed` windows also read the samples around them.
        if self.source.extension.is_some() {
            return None;
        }
        match self.function()?.kernel {
            Kernel::Window(kernel) => Some(kernel),
            _ => None,
        }
    }

    /// Whether the rows lose the metric name in this leaf. Then it uses the ring's labels without
    /// names, which all such leaves share.
    pub fn strips_names(&self) -> bool {
        !self.leaf.keeps_name() && !self.dialect.delayed_names
    }

    /// Whether the answer depends on the newest sample in the window only.
    pub(super) fn is_latest(&self) -> bool {
        matches!(self.leaf, Leaf::Value | Leaf::Timestamp(_) | Leaf::StartTimestamp | Leaf::Info)
    }

    /// The time of the first evaluation that reads a sample of time `sample_t`.
    pub(super) fn first_read(&self, sample_t: TimeMs) -> TimeMs {
        if self.source.at.is_some() {
            // Every evaluation reads the same time.
            return TimeMs::MIN;
        }
        let (_, ahead) = self.source.reach(&self.leaf, self.lookback);
        sample_t.saturating_add(self.source.offset).saturating_sub(ahead)
    }

    /// The rows of a block that are in the window at `t`.
    pub(super) fn block_window(&self, block: &RingBlock, t: TimeMs) -> BlockWindow {
        let end = self.source.time(t, t, t);
        let (back, ahead) = self.source.reach(&self.leaf, self.lookback);
        let after = end - back;
        let until = end + ahead;
        let start = if let Leaf::Window(_, range) = &self.leaf { end - range } else { after };
        let hi = block.clock().partition_point(|c| *c <= until);
        // Windows are open on the left: a sample exactly `back` before the end is outside.
        let lo = block.clock()[..hi].partition_point(|c| *c <= after);
        BlockWindow { lo, hi, after, until, start, end, t }
    }

    /// Until when the answers of a block are valid, as far as the times of its rows decide it.
    pub(super) fn window_valid_until(&self, block: &RingBlock, window: BlockWindow) -> TimeMs {
        let BlockWindow { lo, hi, t, .. } = window;
        // With an extension the value is interpolated or reaches beyond the window, so no rule
        // about times of rows holds.
        if self.source.extension.is_some() {
            return t;
        }
        // A sample after the window's end (offset, or a timestamp in the future) comes into the
        // window later.
        let ahead = block.clock().get(hi).map_or(TimeMs::MAX, |next| t + (next - window.until) - 1);
        if lo == hi {
            return ahead;
        }
        // A selector's answer ends when its newest sample becomes stale, a window's when its oldest
        // leaves.
        let decides = if self.is_latest() { hi - 1 } else { lo };
        ahead.min(t + (block.clock()[decides] - window.after) - 1)
    }

    /// The histograms in the window, with reset hints that are derived from their predecessors.
    /// Windows include the sample at their left edge, which only serves as a predecessor. If the
    /// leaf needs no buckets, they are removed afterwards.
    pub(super) fn histograms_in_window(
        &self,
        histograms: &[TimedHistogram],
        window: BlockWindow,
    ) -> Vec<TimedHistogram> {
        let is_window = matches!(self.leaf, Leaf::Window(..) | Leaf::Present(_));
        let from = histograms.partition_point(|(t, _)| *t < window.after + i64::from(!is_window));
        let to = histograms.partition_point(|(t, _)| *t <= window.until);
        // `get`, because `from` is one step earlier than the window and may lie behind `to` in an
        // empty one.
        let mut hinted = histograms.get(from..to).unwrap_or(&[]).to_vec();
        derive_reset_hints(&mut hinted);
        if self.leaf.drops_buckets() {
            leave_buckets(&mut hinted);
        }
        hinted
    }
}
