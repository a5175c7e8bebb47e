//! Which rows of its ring a leaf still looks at: all that are in view, or, where its window is kept
//! up, those where the window begins and ends. What is between them need not be kept
//! ([`crate::live::ring::spilled`]).

use super::LiveLeaf;
use crate::functions::WindowMethod;
use std::ops::RangeInclusive;
use storage::model::TimeMs;

/// Times that a leaf looks at.
pub enum NeededTimes {
    /// Everything between them.
    All(RangeInclusive<TimeMs>),
    /// What is around them; and between them, where series fall or have gaps, if that counts.
    Edges([RangeInclusive<TimeMs>; 2], bool),
}

impl LiveLeaf {
    /// What it looks at at `t`, and since it was last evaluated: everything if it was not yet.
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

    /// Whether it has looked at its ring as it is now.
    pub fn has_seen_all(&self) -> bool {
        self.reached != TimeMs::MIN
    }

    /// Whether it was never evaluated.
    pub fn is_new(&self) -> bool {
        self.looked.0 == TimeMs::MIN
    }
}
