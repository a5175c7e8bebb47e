//! Which samples of its ring (the recent samples of a selector) a leaf still reads: all samples of
//! its window, or, if its function is computed incrementally, only those at the two ends. The rows
//! in between can leave memory ([`crate::live::ring::spilled`]).

use super::LiveLeaf;
use crate::functions::WindowMethod;
use std::ops::RangeInclusive;
use storage::model::TimeMs;

/// The times whose samples a leaf reads.
pub enum NeededTimes {
    /// All samples in the range.
    All(RangeInclusive<TimeMs>),
    /// Samples at the two ends of the window.
    Edges {
        /// Those that leave the window.
        oldest: RangeInclusive<TimeMs>,
        /// Those that come into it.
        newest: RangeInclusive<TimeMs>,
        /// Also the samples between them where series fall or have gaps.
        irregular: bool,
    },
}

impl LiveLeaf {
    /// The times that the leaf reads at `t` and in any evaluation since the last one. A leaf that
    /// was never evaluated reads its whole window.
    pub fn needed_times(&self, t: TimeMs) -> NeededTimes {
        let source = &self.config.source;
        let (back, ahead) = source.reach(&self.config.leaf, self.config.lookback);
        let end = source.time(t, t, t);
        let Some(evaluated) = self.progress.since_fill() else {
            return NeededTimes::All(end - back..=end + ahead);
        };
        let end_before = source.time(evaluated, t, t);
        // Both orders: `@` aside, `end` may also be before the last evaluation if the clock was set
        // back.
        let first = end_before.min(end);
        let last = end_before.max(end);
        match self.float_kernel().map_or(WindowMethod::Rescan, |kernel| kernel.method) {
            // The functions without an incremental method read every sample again.
            WindowMethod::Rescan => NeededTimes::All(first - back..=last + ahead),
            method => NeededTimes::Edges {
                oldest: first - back..=last - back,
                newest: first + ahead..=last + ahead,
                irregular: matches!(method, WindowMethod::Endpoints { .. }),
            },
        }
    }

    /// Whether the leaf was evaluated since its ring was last filled from the store.
    pub fn has_seen_all(&self) -> bool {
        self.progress.since_fill().is_some()
    }

    /// Whether the leaf was never evaluated.
    pub fn is_new(&self) -> bool {
        self.progress.is_new()
    }
}
