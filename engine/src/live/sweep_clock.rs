//! When an executor (local or gather) last searched for ended series or for rows without values.
//! The search reads the state of all views, so it is done about once a minute and not in every
//! tick.

use crate::limits::SWEEP_MS;
use storage::model::TimeMs;

/// The time of the latest look.
#[derive(Default)]
pub(super) struct SweepClock {
    latest: TimeMs,
}

impl SweepClock {
    /// Whether it is time to look again at `t`; then that counts as done.
    pub(super) fn is_due(&mut self, t: TimeMs) -> bool {
        // In both directions: the clock may have been set back.
        let is_due = (t - self.latest).abs() >= SWEEP_MS;
        // Counted as done even if nothing is found: looking costs a walk over all series.
        if is_due {
            self.latest = t;
        }
        is_due
    }
}
