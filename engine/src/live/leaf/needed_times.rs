//! Which rows of its ring a leaf still reads: all rows of its window, or, if its function is
//! computed incrementally, only the rows at the two ends. The rows in between can leave memory
//! ([`crate::live::ring::spilled`]).

use super::LiveLeaf;
use crate::functions::WindowMethod;
use std::ops::RangeInclusive;
use storage::model::TimeMs;

/// The times whose samples a leaf reads.
pub enum NeededTimes {
    /// All samples in the range.
    All(RangeInclusive<TimeMs>),
    /// Samples in the two ranges; and, if the flag is set, also those between them where series
    /// fall or have gaps.
    Edges([RangeInclusive<TimeMs>; 2], bool),
}

impl LiveLeaf {
    /// The times that the leaf reads at `t` and in any evaluation since the last one. A leaf that
    /// was never evaluated reads its whole window.
    pub fn sight(&self, t: TimeMs) -> NeededTimes {
        let (back, ahead) = self.source.reach(&self.leaf, self.lookback);
        let now = self.source.time(t, t, t);
        if !self.has_seen_all() {
            return NeededTimes::All(now - back..=now + ahead);
        }
        let before = self.source.time(self.reached, t, t);
        let (before, now) = (before.min(now), before.max(now));
        match self.plain_kernel().map_or(WindowMethod::Scan, |kernel| kernel.method) {
            WindowMethod::Scan => NeededTimes::All(before - back..=now + ahead),
            upkeep => {
                let odd = matches!(upkeep, WindowMethod::Ends { .. });
                NeededTimes::Edges([before - back..=now - back, before + ahead..=now + ahead], odd)
            }
        }
    }

    /// Whether the leaf was evaluated since its ring was last filled from the store.
    pub fn has_seen_all(&self) -> bool {
        self.reached != TimeMs::MIN
    }

    /// Whether the leaf was never evaluated.
    pub fn is_new(&self) -> bool {
        self.looked.0 == TimeMs::MIN
    }
}
